"""The estimate of a whole plan: calls, tokens, seconds and dollars of every step, their sums, and the makespan.

Owns the result and how steps add up to it. The calls come from plan_sample, the figures of one step from node_cost, the
makespan from makespan.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from sundog.cost.estimate import NOTHING, Estimate, sum_of
from sundog.cost.history import ASSUMED_TOOL_S, executed_share, mean_of, output_tokens
from sundog.cost.node_cost import (
    NO_CALLS,
    NO_TOKENS,
    CallCost,
    RowSample,
    TokenCost,
    count_calls,
    estimate_dollars,
    estimate_seconds,
    estimate_tokens,
    estimate_tool_seconds,
    executed_of,
)
from sundog.cost.plan_sample import UNLIMITED_OUTPUT_TOKENS, PlannedCall
from sundog.cost.pools import EnginePool, Known
from sundog.cost.tables.sampled_table import SampledTable, TableEstimate
from sundog.ir.physical import CallExec, Exec, LoopExec, Sharing, calls_of


@dataclass(frozen=True, slots=True)
class NodeEstimate:
    """The estimate of one call of the plan."""

    node: str
    operator: str
    pool: str
    calls: CallCost
    #: None for a step without an engine.
    tokens: TokenCost | None
    #: Seconds of its pool, if the step had that for itself; None where nothing was measured.
    seconds: Estimate | None
    #: None where nothing has a price.
    usd: Estimate | None


@dataclass(frozen=True, slots=True)
class PlanEstimate:
    """The estimate of a plan."""

    tables: tuple[TableEstimate, ...]
    #: In plan order.
    nodes: tuple[NodeEstimate, ...]
    #: Seconds from the first call to the last row's end, with the engines started before; None where an engine was
    #: never measured, or no step was.
    makespan_s: Estimate | None
    #: The costliest chain of steps that wait for each other, the first first; empty where their seconds are not known.
    critical_path: tuple[str, ...]
    #: Sentences that say what was not known, and what to do about it.
    missing: tuple[str, ...]

    @property
    def sample(self) -> RowSample:
        """The sampled rows and all rows of all tables, those to come as many as are expected."""
        samples = [table.sample for table in self.tables]
        return RowSample(sum(one.num_sampled for one in samples), sum(one.num_rows for one in samples))

    @property
    def calls(self) -> CallCost:
        return sum((node.calls for node in self.nodes), NO_CALLS)

    @property
    def tokens(self) -> TokenCost:
        return sum((node.tokens for node in self.nodes if node.tokens is not None), NO_TOKENS)

    @property
    def usd(self) -> Estimate | None:
        """The dollars of all steps that have a price; None where none has."""
        priced = [node.usd for node in self.nodes if node.usd is not None]
        return sum_of(priced) if priced else None


@dataclass(frozen=True, slots=True)
class SampledPlan:
    """The sample on which an estimate of a plan rests."""

    #: In topological order.
    tables: tuple[SampledTable, ...]
    known: Known
    #: Sentences that say which rows could not be told, and why.
    notes: tuple[str, ...] = ()

    @property
    def calls(self) -> tuple[PlannedCall, ...]:
        """The calls of the sampled rows of all tables."""
        return tuple(chain.from_iterable(table.calls for table in self.tables))

    @property
    def num_rows(self) -> int:
        """The rows of all tables, those to come as many as are expected."""
        return sum(table.sample.num_rows for table in self.tables)


def estimate_plan(plan: SampledPlan) -> PlanEstimate:
    """Estimate all but the makespan, which is None: a simulation tells it."""
    known = plan.known
    steps = _Steps(known)
    found: dict[str, NodeEstimate] = {}
    for table in plan.tables:
        by_node: dict[str, list[PlannedCall]] = defaultdict(list)
        for call in table.calls:
            by_node[call.node].append(call)
        steps.is_known = table.is_known
        for node in calls_of(table.nodes):
            found[node.name] = steps.estimate(node, by_node[node.name], table.sample)
    path = _longest_of(plan.tables, found) if has_seconds(found.values(), known) else ()
    tables = tuple(TableEstimate(t.name, t.sample, t.num_rows, t.num_done, t.is_known) for t in plan.tables)
    return PlanEstimate(tables, tuple(found.values()), None, path, (*_missing(found, known), *plan.notes))


def has_seconds(found: Collection[NodeEstimate], known: Known) -> bool:
    """Return whether the times of all engines are known; those of tools may be assumed, as long as anything was
    measured."""
    unknown = [node for node in found if node.seconds is None]
    return len(unknown) < len(found) and not any(isinstance(known.pools[node.pool], EnginePool) for node in unknown)


class _Steps:
    """Steps in plan order: what earlier ones have made and computed, later ones find."""

    def __init__(self, known: Known) -> None:
        #: The rows of the table in question are there; else which of their calls will be equal is not to be seen.
        self.is_known = True
        self._known = known
        self._made: set[Hashable] = set()
        self._warm: dict[str, set[int]] = defaultdict(set)

    def estimate(self, node: CallExec, calls: Sequence[PlannedCall], sample: RowSample) -> NodeEstimate:
        """Return what the sampled `calls` of one step come to for all rows of its table; seconds are None while nothing
        is known of its calls' time."""
        pool = self._known.pools[node.pool]
        if isinstance(pool, EnginePool):
            return self._engine_step(node, pool, calls, sample)
        cost = sum((one for one, _ in self._groups(node, calls, sample)), NO_CALLS)
        record = self._known.record(node.name)
        call_s = None if record is None else mean_of(record.call_s, cost.num_executed.expected)
        if cost.num_asked == NOTHING:
            call_s = NOTHING
        seconds = None if call_s is None else estimate_tool_seconds(cost, call_s, pool.max_concurrency)
        return NodeEstimate(node.name, node.step.operator, node.pool, cost, None, seconds, None)

    def _engine_step(
        self, node: CallExec, pool: EnginePool, calls: Sequence[PlannedCall], sample: RowSample
    ) -> NodeEstimate:
        cost, tokens = NO_CALLS, NO_TOKENS
        for one, more in self._groups(node, calls, sample):
            cost, tokens = cost + one, tokens + more
        usd = None if pool.prices is None else estimate_dollars(tokens, pool.prices)
        seconds = None
        if cost.num_asked == NOTHING:
            seconds = NOTHING
        elif pool.profile is not None:
            seconds = estimate_seconds(cost, tokens, pool.profile, num_replicas=pool.num_replicas)
        else:
            seconds = self._seconds_of_calls(node, pool, cost)
        return NodeEstimate(node.name, node.step.operator, node.pool, cost, tokens, seconds, usd)

    def _seconds_of_calls(self, node: CallExec, pool: EnginePool, cost: CallCost) -> Estimate | None:
        """Return what calls of earlier runs took, in as many places at once as there are; None without such runs."""
        record = self._known.record(node.name, node.pool)
        call_s = None if record is None else mean_of(record.call_s, cost.num_executed.expected)
        if call_s is None:
            return None
        return estimate_tool_seconds(cost, call_s, pool.max_concurrency * pool.num_replicas)

    def _groups(
        self, node: CallExec, calls: Sequence[PlannedCall], sample: RowSample
    ) -> list[tuple[CallCost, TokenCost]]:
        """Return the costs of the calls that are made with one chance, the likelier ones first."""
        pool, is_shared = self._known.pools[node.pool], node.sharing is not Sharing.NEVER
        share = None
        if is_shared and not self.is_known:
            share = executed_share(self._known.record(node.name))
        by_chance: dict[Estimate, list[PlannedCall]] = defaultdict(list)
        for call in calls:
            by_chance[call.chance].append(call)
        costs: list[tuple[CallCost, TokenCost]] = []
        for chance in sorted(by_chance, key=lambda one: -one.expected):
            sampled = [call.sampled for call in by_chance[chance]]
            cost = count_calls(sampled, sample, chance, is_shared=is_shared, made=self._made)
            if share is not None:
                cost = replace(cost, num_executed=(cost.num_asked * share).at_most(cost.num_asked))
            tokens = NO_TOKENS
            if isinstance(pool, EnginePool):
                tokens = estimate_tokens(
                    sampled,
                    sample,
                    cost,
                    self._answer_tokens(node, cost),
                    is_shared=is_shared,
                    block_tokens=pool.block_tokens,
                    warm=self._warm[node.pool],
                    made=self._made,
                ).with_error(self._known.token_error(node.name, pool))
            executed = executed_of(sampled, is_shared=is_shared, made=self._made)
            self._warm[node.pool].update(block for call in executed for block in call.blocks)
            if is_shared:
                self._made.update(call.signature for call in executed)
            costs.append((cost, tokens))
        return costs

    def _answer_tokens(self, node: CallExec, cost: CallCost) -> Estimate:
        limit = self._known.steps[node.name].max_tokens or UNLIMITED_OUTPUT_TOKENS
        record = self._known.record(node.name, node.pool)
        return output_tokens(record, max(1.0, cost.num_executed.expected), limit)


def _missing(found: Mapping[str, NodeEstimate], known: Known) -> tuple[str, ...]:
    pools = [known.pools[name] for name in dict.fromkeys(node.pool for node in found.values())]
    untimed = {node.pool for node in found.values() if node.seconds is None}
    notes = []
    for pool in pools:
        if isinstance(pool, EnginePool) and pool.profile is None:
            so = "and no call of it was ever timed"
            if pool.name not in untimed:
                so = "so its calls are taken to last as long as in earlier runs"
            notes.append(
                f"the engine {pool.engine} is not calibrated, {so}: sundog calibrate FLOW --engine {pool.engine}"
            )
    if not known.history:
        notes.append("no earlier run of this flow: lengths of answers and all that depends on answers have wide ranges")
    tools = [name for name, node in found.items() if node.tokens is None and node.seconds is None]
    if tools:
        assumed = f"{ASSUMED_TOOL_S.expected:g} s ({ASSUMED_TOOL_S.low:g}-{ASSUMED_TOOL_S.high:g} s)"
        notes.append(
            f"never timed: {', '.join(tools)}; in the makespan a call of them is taken to last {assumed}"
            if has_seconds(found.values(), known)
            else f"never timed: {', '.join(tools)}; the first run times them"
        )
    for pool in pools:
        if isinstance(pool, EnginePool) and pool.token_error:
            error = max(known.token_error(node.node, pool) for node in found.values() if node.pool == pool.name)
            notes.append(f"prompt tokens for {pool.engine} are counted from characters, within {error:.0%}")
    return tuple(notes)


def _longest_of(tables: Sequence[SampledTable], found: Mapping[str, NodeEstimate]) -> tuple[str, ...]:
    """Return the chain with the most seconds: that of a table comes after those of the tables that it waits for."""
    best: dict[str, tuple[float, tuple[str, ...]]] = {}
    for table in tables:
        before = max((best[name] for name in table.sources), default=(0.0, ()), key=lambda one: one[0])
        seconds, names = _longest(table.nodes, found)
        best[table.name] = before[0] + seconds, before[1] + names
    return max(best.values(), default=(0.0, ()), key=lambda one: one[0])[1]


def _longest(nodes: Sequence[Exec], found: Mapping[str, NodeEstimate]) -> tuple[float, tuple[str, ...]]:
    """Return the chain with the most seconds through `nodes`, which are in topological order."""
    best: dict[str, tuple[float, tuple[str, ...]]] = {}
    for node in nodes:
        before = max((best[name] for name in node.before), default=(0.0, ()), key=lambda one: one[0])
        if isinstance(node, LoopExec):
            seconds, names = _longest(node.body, found)
        elif isinstance(node, CallExec):
            own = found[node.name]
            assumed = ASSUMED_TOOL_S * own.calls.num_executed
            seconds, names = (assumed if own.seconds is None else own.seconds).expected, (node.name,)
        else:
            seconds, names = 0.0, ()
        best[node.name] = before[0] + seconds, before[1] + names
    return max(best.values(), default=(0.0, ()), key=lambda one: one[0])
