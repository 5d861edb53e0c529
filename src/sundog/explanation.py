"""The document that `explain` shows of a session: its plans, what they take, what was rewritten, what to change.

Owns gathering it. Runs no step; the arithmetic is in the room cost, and the forms are in present.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from sundog.cost.plan_estimate import PlanEstimate
from sundog.cost.row_statistics import RowFields
from sundog.deployment import engine_limits, tool_limits
from sundog.ir.logical import LogicalPlan
from sundog.ir.physical import CallExec, calls_of
from sundog.measured.plan_costs import PlanCosts
from sundog.optimizer.advice import advise, fields_wanted, tried_moves
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.placing import place_steps
from sundog.optimizer.prompt_parts import prompts_of
from sundog.optimizer.rules.catalog import MERGE_CALLS
from sundog.present.document import (
    PlanDocument,
    RewriteDocument,
    WarningDocument,
    document_of,
    merged_calls,
    rewrite_document,
)
from sundog.present.logical_tree import Tree, logical_tree
from sundog.present.physical_tree import PoolFacts, physical_tree
from sundog.present.text import plan_text
from sundog.runtime.follow import engine_replicas
from sundog.runtime.row_order import reading_order_of
from sundog.runtime.rows.inputs import RowSource
from sundog.session import Session

if TYPE_CHECKING:
    from sundog.runtime.figures.report import Report

NOT_WHOLE = "this process has not run all of the run: seconds are its own, --fresh runs everything"
NOT_ALL_TRIED = "advice: prompts have so many values that not every move of one was tried"
MAX_ADVICE_ROWS, MAX_ADVICE_COUNTS = 100_000, 2_000_000
"""Advice takes no longer on more rows, nor on more counted sets of values times rows; it says how many it looked at."""


class Explanation:
    """This class explains the flow of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._plan = session.plan

    def document(self) -> PlanDocument:
        """Return what explain shows, as data. Reads the inputs, runs no step."""
        with closing(self._session.open_rows(None, self._plan.written.inputs)) as rows:
            costs = self._session.costs(rows, rows.count())
            order = reading_order_of(self._plan, rows)
            advice = self._advice(rows)
            findings = self._session.inspect(rows)
        estimate = costs.estimate(self._plan)
        rewrites = self._rewrite_documents(costs, estimate)
        placement = place_steps(self._plan, engine_replicas(self._plan), self._session.figures_of(estimate))
        return document_of(
            replace(self._plan, placement=placement),
            logical_tree(self._plan.written),
            rewrites,
            self._pool_facts(),
            self._reasons(),
            order,
            estimate,
            advice,
            [WarningDocument(one.place, one.what, one.hint, one.is_fatal) for one in findings],
        )

    def analyzed(self, document: PlanDocument, report: Report, *, is_whole: bool) -> PlanDocument:
        """Return `document` with what the run did. `is_whole`: the process that reports has run all of it."""
        # Few commands analyze, and these bring the store along.
        from sundog.present.analysis import with_actual
        from sundog.runtime.figures.actuals import actuals_of

        notes = () if is_whole else (NOT_WHOLE,)
        return with_actual(
            document, actuals_of(report, self._plan), report.rows_s if is_whole else None, notes, is_whole=is_whole
        )

    def shown(self, document: PlanDocument, form: str) -> str:
        """Return a document of this session; `form`: text, json or html."""
        if form == "json":
            return json.dumps(document.to_dict())
        if form == "html":
            from sundog.present.html import html_of

            return html_of(document)
        placed = replace(self._plan, placement=document.placement)
        physical = physical_tree(placed, self._pool_facts(), self._reasons(), document.num_rows, document.reading_order)
        return plan_text(document, physical).rstrip("\n")

    def _rewrite_documents(self, costs: PlanCosts, estimate: PlanEstimate) -> list[RewriteDocument]:
        """Return each rule with what it saves in all, and merge_calls, which the planner does."""
        before: dict[str, list[PlanEstimate]] = {}
        after: dict[str, list[PlanEstimate]] = {}
        notes: dict[str, list[str]] = {}
        # Some rules leave all steps as they are, and the last one leaves the plan: those cost no second estimate.
        known = [(self._plan.nodes, estimate)]

        def estimated(logical: LogicalPlan) -> PlanEstimate:
            plan = self._session.planned(logical)
            found = next((one for nodes, one in known if nodes == plan.nodes), None)
            if found is None:
                found = costs.estimate(plan)
                known.append((plan.nodes, found))
            return found

        last = self._plan.written
        for fired in self._session.rewritten.fired:
            before.setdefault(fired.rule, []).append(estimated(last))
            after.setdefault(fired.rule, []).append(estimated(fired.plan))
            notes.setdefault(fired.rule, []).extend(fired.notes)
            last = fired.plan
        found = [rewrite_document(rule, notes[rule], before[rule], after[rule]) for rule in notes]
        merged = merged_calls(estimate)
        return found if merged is None else [*found, merged]

    def _advice(self, rows: RowSource) -> list[Tree]:
        """Return what the user could change in the prompts; nothing where nothing would be gained."""
        prompts = prompts_of(self._plan.logical, PlanFacts(self._plan.logical, self._session.operators))
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

    def _pool_facts(self) -> list[PoolFacts]:
        groups = {one.pool: None if one.group is None else one.group.name for one in engine_replicas(self._plan)}
        engines = [
            PoolFacts(pool, num_replicas, options.max_concurrency, options.max_tokens_in_flight, groups[pool])
            for pool, num_replicas, options in engine_limits(self._plan)
        ]
        return engines + [
            PoolFacts(pool, 1, limit) for pool, limit in tool_limits(self._plan, self._session.operators).items()
        ]

    def _reasons(self) -> dict[str, str]:
        found = {call.name: self._reason(call) for call in calls_of(self._plan.nodes)}
        return {name: reason for name, reason in found.items() if reason is not None}

    def _reason(self, call: CallExec) -> str | None:
        if call.step.share is not None:
            return f"share: {str(call.step.share).lower()}"
        traits = self._session.operators[call.step.operator].traits(call.step.spec)
        if self._session.rewriting.is_naive or MERGE_CALLS in self._session.rewriting.without:
            return traits.reason if call.sharing is traits.sharing else "calls are not merged"
        if call.sharing is not traits.sharing:
            return f"{traits.reason}, but this flow writes there" if traits.reason else "this flow writes there"
        return traits.reason
