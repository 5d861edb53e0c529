"""This module gathers what the estimate of a plan rests on: sampled rows, tokenizers, profiles, limits, prices and the
history.

Owns gathering it. Starts no engine and runs no step; the arithmetic is in the room cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

from sundog.batch.follower import PlacementWithFigures
from sundog.cost.estimate import Estimate, sum_of
from sundog.cost.history import History, children_per_row
from sundog.cost.load_range import deciding_tool
from sundog.cost.plan_estimate import PlanEstimate, SampledPlan, estimate_plan, has_seconds
from sundog.cost.pools import EnginePool, Known, StepFacts, ToolPool
from sundog.cost.profile import Profile
from sundog.cost.prompt_sample import MeasuredPrompt, Texts, text_blocks, token_blocks
from sundog.cost.tables.query_rows import rows_of_query
from sundog.cost.tables.sampled_table import SampledTable, TableRows, known_rows, rows_to_come, sampled_table
from sundog.deployment import engine_limits, identities, opened, tool_limits
from sundog.engines.base import EngineKind, EngineOptions, EngineOutline, Message, Role
from sundog.engines.embedded.models import cache_folder
from sundog.errors import SundogError
from sundog.ir.logical import EngineBlock, Step, templates_of
from sundog.ir.physical import PhysicalPlan, TableExec, calls_of
from sundog.ir.pool_names import engine_pool, label_of
from sundog.ir.query_forms import QueryForm
from sundog.ir.tables import FirstRows
from sundog.ir.values.canonical import canonical_json, describe_value
from sundog.measured.node_history import read_history
from sundog.measured.profiles import load_profile
from sundog.operators.base import Operator, Traits
from sundog.optimizer.placement_figures import PlacementFigures
from sundog.tokens import CHARACTERS_PER_TOKEN

MAX_SAMPLED_ROWS = 200
MAX_SAMPLED_CALLS = 2000
MAX_SAMPLED_CHARACTERS = 20_000_000
"""The bound for all sampled rows, once for each step: a prompt may hold the whole row."""
# Where the tokenizer cannot be had: CHARACTERS_PER_TOKEN is off by as much.
ESTIMATED_ERROR = 0.25

SampledRows = Sequence[tuple[int, Mapping[str, Any]]]


def num_rows_to_sample(plan: PhysicalPlan) -> int:
    """Return as many as keep an estimate quick, whatever the number of steps."""
    num_steps = max(1, sum(1 for _ in calls_of(plan.nodes)))
    return max(20, min(MAX_SAMPLED_ROWS, MAX_SAMPLED_CALLS // num_steps))


def characters_to_sample(plan: PhysicalPlan) -> int:
    """Return how many characters the sampled rows may have."""
    return MAX_SAMPLED_CHARACTERS // max(1, sum(1 for _ in calls_of(plan.nodes)))


class RowsBeforeRuns(Protocol):
    """This class tells what is known of the rows of tables before their steps have run."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that say which rows could not be told, and why."""
        ...

    def known(self, plan: PhysicalPlan, table: TableExec) -> tuple[SampledRows, int] | None:
        """Return a sample of the rows of a table and how many there are; None where steps of other tables decide
        that."""
        ...

    def counted(self, plan: PhysicalPlan, table: TableExec) -> int | None:
        """Return how many rows a table has whose steps' values are not known, but decide nothing of that; None where
        they do."""
        ...

    def num_input_rows(self, name: str) -> int:
        """Return how many rows an input has that a query reads."""
        ...

    def form(self, table: TableExec) -> QueryForm:
        """Return the form of the query of a table whose rows are not known."""
        ...


class PlanCosts:
    """Estimates plans of one flow over samples of its tables. `engines`: the flow's blocks. `counts_tokens` False:
    only the numbers of calls are wanted, for which no tokenizer is loaded."""

    def __init__(
        self,
        flow: str,
        engines: Sequence[EngineBlock],
        operators: Mapping[str, Operator],
        state_dir: Path,
        rows: RowsBeforeRuns,
        *,
        counts_tokens: bool = True,
    ) -> None:
        self._counts_tokens = counts_tokens
        self._operators = operators
        self._rows = rows
        self._blocks = {engine_pool(block.name): block for block in engines}
        self._history: History = read_history(state_dir, flow)
        self._pools: dict[str, EnginePool] = {}
        self._last: tuple[PhysicalPlan, SampledPlan] | None = None

    def estimate(self, plan: PhysicalPlan) -> PlanEstimate:
        """Estimate a run of `plan` that finds no results of earlier runs, as with --fresh, but for its makespan."""
        return estimate_plan(self.sampled(plan))

    def with_makespan(
        self, plan: PhysicalPlan, estimate: PlanEstimate, placing: PlacementWithFigures | None
    ) -> PlanEstimate:
        """Return the estimate of `plan` with its makespan, which a simulation tells. `placing`: where steps run, of a
        plan with workers."""
        sampled = self.sampled(plan)
        if not has_seconds(estimate.nodes, sampled.known):
            return estimate
        from sundog.sim.promise import promised_makespan  # an estimate without seconds needs no simulator

        makespan_s = promised_makespan(plan, sampled, estimate, placing=placing)
        decides = None if makespan_s is None else deciding_tool(makespan_s.expected, estimate.nodes, sampled.known)
        notes = estimate.missing if decides is None else (*estimate.missing, _of_tool(*decides))
        return replace(estimate, makespan_s=makespan_s, missing=notes)

    def placed(
        self, plan: PhysicalPlan, estimate: PlanEstimate, figures: PlacementFigures
    ) -> PlacementWithFigures | None:
        """Return where the steps of `plan` run (`sim.choice.chosen_placement`); None without workers."""
        if not plan.logical.workers:
            return None
        from sundog.sim.choice import chosen_placement  # as above

        return chosen_placement(plan, self.sampled(plan), estimate, figures)

    def sampled(self, plan: PhysicalPlan) -> SampledPlan:
        """Return the sample that estimates and simulations of `plan` rest on; that of the last plan is kept."""
        if self._last is None or self._last[0] is not plan:
            known = self._known(plan)
            found: dict[str, SampledTable] = {}
            for table in plan.tables:
                read = {name: found[name].num_done for name in table.table.reads if name in found}
                rows = self._table_rows(plan, table, read)
                found[table.name] = sampled_table(table, plan.logical.constants, rows, known)
            self._last = plan, SampledPlan(tuple(found.values()), known, self._rows.notes)
        return self._last[1]

    def _table_rows(self, plan: PhysicalPlan, table: TableExec, num_done: Mapping[str, Estimate]) -> TableRows:
        """Return the rows of a table. `num_done`: the rows of each table that it reads."""
        rows = self._rows.known(plan, table)
        if rows is not None:
            return known_rows(*rows)
        number = self._rows.counted(plan, table)
        if number is not None:
            return rows_to_come(table.name, Estimate.exactly(number))
        told = children_per_row(self._history.get((table.name, "")))
        num_rows = self._guessed(table, num_done) if told is None else sum_of(num_done.values()) * told
        take = table.table.take
        most = min(take.num_rows, table.table.max_rows) if isinstance(take, FirstRows) else table.table.max_rows
        return rows_to_come(table.name, num_rows.at_most(Estimate.exactly(most)))

    def _guessed(self, table: TableExec, num_done: Mapping[str, Estimate]) -> Estimate:
        inputs = {name: self._rows.num_input_rows(name) for name in table.table.reads if name not in num_done}
        of_inputs = {name: Estimate.exactly(number) for name, number in inputs.items()}
        return rows_of_query(self._rows.form(table), {**num_done, **of_inputs})

    def _known(self, plan: PhysicalPlan) -> Known:
        who = identities(plan)
        steps = {call.name: _facts(call.step, self._traits(call.step), who) for call in calls_of(plan.nodes)}
        tools = {pool: ToolPool(pool, limit) for pool, limit in tool_limits(plan, self._operators).items()}
        for pool, num_replicas, _ in engine_limits(plan):
            if pool not in self._pools:
                self._pools[pool] = self._engine_pool(pool, num_replicas)
        return Known(steps, {**tools, **self._pools}, self._history)

    def _traits(self, step: Step) -> Traits:
        return self._operators[step.operator].traits(step.spec)

    def _engine_pool(self, pool: str, num_replicas: int) -> EnginePool:
        block = self._blocks[pool]
        kind, options = opened(block)
        outline = _outline(kind, options) if self._counts_tokens else NO_TOKENIZER
        return _engine_pool(pool, block, options, outline, num_replicas)


def _engine_pool(
    name: str, block: EngineBlock, options: EngineOptions, outline: EngineOutline, num_replicas: int
) -> EnginePool:
    profile = load_profile(cache_folder(), block)
    return EnginePool(
        name=name,
        engine=block.name,
        model=options.model,
        measure=partial(_measure, outline),
        token_error=outline.count_error,
        block_tokens=outline.block_tokens,
        num_replicas=num_replicas,
        max_concurrency=options.max_concurrency,
        max_tokens_in_flight=options.max_tokens_in_flight or outline.max_kv_tokens,
        max_kv_tokens=outline.max_kv_tokens,
        profile=None if profile is None else _within(profile, options),
        prices=options.price,
        is_on_workers=block.workers is not None,
        shared_device=options.shared_device,
    )


def _of_tool(pool: ToolPool, seconds: float) -> str:
    """Return what decides a makespan, and where that can be changed: nobody can let a SQLite file take two writes."""
    where = ", which the flow's `limits` can change" if pool.max_concurrency > 1 else ""
    at_once = f"{pool.max_concurrency:,} at once{where}"
    return f"{label_of(pool.name)} decides the makespan: its calls take {seconds:.3g} s with {at_once}"


def _outline(kind: EngineKind, options: EngineOptions) -> EngineOutline:
    """A model that is not there yet can be explained all the same: its tokens are then counted from characters, which
    the estimate's range and its notes say."""
    try:
        return kind.outline(options)
    except SundogError:
        return NO_TOKENIZER


def _count_characters(messages: Sequence[Message]) -> int:
    return round(sum(len(message.text) for message in messages) / CHARACTERS_PER_TOKEN)


NO_TOKENIZER = EngineOutline(_count_characters, ESTIMATED_ERROR, None, None, None)


def _measure(outline: EngineOutline, texts: Texts, *, scale: float, block_scale: float) -> MeasuredPrompt:
    messages = [Message(cast(Role, role), text) for role, text in texts]
    if outline.encode is None:
        num_characters = round(CHARACTERS_PER_TOKEN / block_scale * (outline.block_tokens or 0))
        blocks = text_blocks(texts, num_characters) if num_characters else None
        return MeasuredPrompt(outline.count(messages) * scale, blocks)
    tokens = outline.encode(messages)
    return MeasuredPrompt(len(tokens), token_blocks(tokens, outline.block_tokens) if outline.block_tokens else None)


def _within(profile: Profile, options: EngineOptions) -> Profile:
    """Fewer requests may be let in than were measured together."""
    num_requests = min(profile.limits.max_decode_requests, options.max_concurrency)
    return replace(profile, limits=replace(profile.limits, max_decode_requests=num_requests))


def _facts(step: Step, traits: Traits, who: Mapping[str, Mapping[str, Any]]) -> StepFacts:
    conversation, decided_by = traits.conversation, [step.operator, describe_value(step.spec)]
    if traits.engine is None:
        conversation = tuple(("", template) for template in templates_of(step.spec))
    else:
        decided_by = [step.operator, dict(who[traits.engine]), traits.answer_options]
    identity = canonical_json(decided_by).decode("utf-8", "surrogatepass")
    return StepFacts(conversation, identity, traits.max_tokens)
