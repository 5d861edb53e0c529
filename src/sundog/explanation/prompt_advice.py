"""Advice on the prompts of a flow, from its rows.

Owns how many rows are looked at for it. What could move, and what that would save, is optimizer.advice's affair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sundog.cost.row_statistics import RowFields
from sundog.optimizer.advice import advise, fields_wanted, tried_moves
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.prompt_parts import StepPrompt, prompts_of
from sundog.present.logical_tree import Tree
from sundog.runtime.rows.inputs import RowSource
from sundog.session.planned_flow import PlannedFlow
from sundog.session.rows_before_runs import TableRowsBeforeRuns

NOT_ALL_TRIED = "advice: prompts have so many values that not every move of one was tried"
MAX_ADVICE_ROWS, MAX_ADVICE_COUNTS = 100_000, 2_000_000
"""Advice takes no longer on more rows, nor on more counted sets of values times rows; it says how many it looked at."""


def prompt_advice(flow: PlannedFlow, rows: TableRowsBeforeRuns) -> list[Tree]:
    """Return what the user could change in the prompts; nothing where nothing would be gained. Of tables whose rows
    steps of others decide nothing is known yet."""
    plan = flow.plan.logical
    facts = PlanFacts(plan, flow.operators)
    found = []
    for table in flow.plan.tables:
        prompts = prompts_of(table.table, plan.constants, facts)
        source = rows.source(flow.plan, table) if prompts else None
        found += _advice(prompts, source) if source is not None else []
    return found


def _advice(prompts: Mapping[str, Sequence[StepPrompt]], rows: RowSource) -> list[Tree]:
    wanted = frozenset[RowFields]().union(*map(fields_wanted, prompts.values()))
    is_cut = any(tried_moves(of_pool)[1] for of_pool in prompts.values())
    if not wanted:
        return [Tree(NOT_ALL_TRIED)] if is_cut else []
    statistics = rows.statistics(wanted, first=min(MAX_ADVICE_ROWS, MAX_ADVICE_COUNTS // len(wanted)))
    found = [Tree(str(one)) for of_pool in prompts.values() for one in advise(of_pool, statistics)]
    if is_cut:
        found.append(Tree(NOT_ALL_TRIED))
    title = f"advice, from {statistics.num_rows:,} rows; sundog changes no prompt by itself"
    return [Tree(title, tuple(found))] if found else []
