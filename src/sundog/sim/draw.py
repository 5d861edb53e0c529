"""Rows of a batch drawn from an estimate: the sampled rows again and again, different where rows are expected to be.

Owns how a sample becomes a batch. Nothing is random: chances, lengths and repetitions are spread evenly, so that equal
estimates give equal batches.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sundog.cost.history import ASSUMED_CALL_S, Histogram, tool_call_s
from sundog.cost.plan_estimate import NodeEstimate
from sundog.cost.plan_sample import PlannedCall
from sundog.cost.pools import EnginePool, Known
from sundog.ir.physical import CallExec, Sharing
from sundog.sim.workload import SimulatedCall, SimulatedRow
from sundog.tokens import DEFAULT_OUTPUT_TOKENS

# Low-discrepancy numbers: the fractional parts of its multiples fill [0, 1) evenly, however many are taken.
_GOLDEN = (5**0.5 - 1) / 2


def evenly(number: int) -> float:
    """Return the `number`-th of numbers in [0, 1) that are spread evenly, however many are taken.

    >>> [round(evenly(number), 2) for number in range(4)]
    [0.5, 0.12, 0.74, 0.35]
    """
    return (0.5 + number * _GOLDEN) % 1


@dataclass(frozen=True, slots=True)
class _Step:
    """The common facts of the calls of one step."""

    node: CallExec
    depth: int
    pool: EnginePool | None
    call_s: Histogram | None
    mean_call_s: float
    output_tokens: Histogram | None
    mean_output_tokens: float
    num_expected_output_tokens: int
    #: Share of the calls beyond the sample that are equal to none in it.
    new_share: float
    #: Share of calls executed of those asked for: of the whole batch over that of the sample, at most 1.
    thinning: float


@dataclass(frozen=True, slots=True)
class _Draw:
    """One row that is drawn."""

    number: int
    #: How often the whole sample was drawn before.
    copy: int
    #: It stands for more rows.
    is_part: bool


class Drawn:
    """The rows of one table of a batch. `row_numbers`: of all sampled rows, also those without a call."""

    def __init__(
        self,
        nodes: Mapping[str, tuple[CallExec, int]],
        calls: Sequence[PlannedCall],
        estimates: Sequence[NodeEstimate],
        row_numbers: Sequence[int],
        known: Known,
        table: str = "",
    ) -> None:
        """`nodes`: each call of the plan with its depth. `calls`: of the sampled rows, their gaps filled. `table`: the
        name of their table."""
        self._table = table
        self._row_numbers = row_numbers
        self._rows = _by_row(calls)
        self._shared_blocks = _shared_blocks(calls)
        num_sampled: dict[str, float] = defaultdict(float)
        distinct: dict[str, set[str]] = defaultdict(set)
        for call in calls:
            num_sampled[call.node] += call.chance.expected
            distinct[call.node].add(call.sampled.signature)
        self._steps = {
            estimate.node: _step(
                *nodes[estimate.node], estimate, known, num_sampled[estimate.node], len(distinct[estimate.node])
            )
            for estimate in estimates
        }

    def rows(self, num_rows: int, *, is_part: bool = False) -> Iterator[SimulatedRow]:
        """Yield `num_rows` rows, in the order of the sample. `is_part`: they stand for all rows, so that as large a
        share of their calls is executed as of all; the others are left out, since a reused result takes no time."""
        num_made: Counter[str] = Counter()
        for number in range(num_rows):
            copy, place = divmod(number, len(self._row_numbers))
            first, calls = self._rows.get(self._row_numbers[place], (0, ()))
            yield self._row(calls, first, _Draw(number, copy, is_part), num_made)

    def _row(self, calls: Sequence[PlannedCall], first: int, draw: _Draw, num_made: Counter[str]) -> SimulatedRow:
        """`first`: the place of the first call among those of all rows. `num_made`: calls of each step so far."""
        ends: dict[int, tuple[int, ...]] = {}
        made: list[SimulatedCall] = []
        luck = evenly(draw.number)
        for place, call in enumerate(calls, start=first):
            chance = call.chance.expected * (self._steps[call.node].thinning if draw.is_part else 1.0)
            before = tuple(dict.fromkeys(end for other in call.before for end in ends[other]))
            places = []
            for repeat in range(int(chance + 1 - luck)):
                num_made[call.node] += 1
                places.append(len(made))
                made.append(self._made(call, before, draw.copy, repeat, luck, num_made[call.node]))
            # What waits for a call that is not made waits for those before it.
            ends[place] = tuple(places) or before
        return SimulatedRow(tuple(made), table=self._table)

    def _made(
        self, call: PlannedCall, before: tuple[int, ...], copy: int, repeat: int, luck: float, number: int
    ) -> SimulatedCall:
        step, sampled = self._steps[call.node], call.sampled
        is_new = copy > 0 and luck < step.new_share
        mark: Hashable = (copy if is_new else 0, repeat)
        key = None if step.node.sharing is Sharing.NEVER else (sampled.signature, mark)
        spread = (number * _GOLDEN) % 1
        if step.pool is None:
            return SimulatedCall(call.node, step.node.pool, before, key, step.depth, call_s=_seconds(step, spread))
        blocks = sampled.blocks if step.pool.block_tokens else ()
        if is_new:
            blocks = tuple(block if block in self._shared_blocks else hash((block, copy)) for block in blocks)
        num_prompt_tokens = max(1, round(sampled.num_prompt_tokens.expected))
        return SimulatedCall(
            call.node,
            step.node.pool,
            before,
            key,
            step.depth,
            num_prompt_tokens,
            max(1, round(_of(step.output_tokens, spread, step.mean_output_tokens))),
            step.num_expected_output_tokens,
            blocks,
            _seconds(step, spread) if step.pool.profile is None else None,
        )


def _step(
    node: CallExec, depth: int, estimate: NodeEstimate, known: Known, num_sampled: float, num_distinct: int
) -> _Step:
    pool = known.pools[node.pool]
    engine = pool if isinstance(pool, EnginePool) else None
    record = known.record(node.name, node.pool)
    num_asked, num_executed = estimate.calls.num_asked.expected, estimate.calls.num_executed.expected
    num_more = num_asked - num_sampled
    executed_share = num_executed / num_asked if num_asked else 1.0
    sampled_share = num_distinct / num_sampled if num_sampled and node.sharing is not Sharing.NEVER else 1.0
    tokens = estimate.tokens
    if engine is None:
        mean_s = tool_call_s(record, 1.0).expected
    else:
        mean_s = record.call_s.mean if record is not None and record.call_s.counts else ASSUMED_CALL_S.expected
    return _Step(
        node,
        depth,
        engine,
        None if record is None else record.call_s,
        mean_s,
        None if record is None else record.output_tokens,
        tokens.output_asked.expected / num_asked if tokens is not None and num_asked else 1.0,
        (known.steps[node.name].max_tokens or DEFAULT_OUTPUT_TOKENS) if engine is not None else 0,
        min(1.0, max(0.0, (num_executed - num_distinct) / num_more)) if num_more > 0 else 1.0,
        min(1.0, executed_share / sampled_share),
    )


def _seconds(step: _Step, spread: float) -> float:
    return _of(step.call_s, spread, step.mean_call_s)


def _of(known: Histogram | None, spread: float, mean: float) -> float:
    """Return the known value that stands at `spread` of all, by size; the mean where none is known. Where all are about
    the same, their mean is nearer than any quantile."""
    if known is None or not known.counts:
        return mean
    return known.mean if len(known.counts) == 1 else known.quantile(spread)


def _by_row(calls: Sequence[PlannedCall]) -> dict[int, tuple[int, list[PlannedCall]]]:
    """Return by row the place of its first call and its calls; those of one row stand together."""
    rows: dict[int, tuple[int, list[PlannedCall]]] = {}
    for place, call in enumerate(calls):
        rows.setdefault(call.sampled.row, (place, []))[1].append(call)
    return rows


def _shared_blocks(calls: Sequence[PlannedCall]) -> frozenset[int]:
    """Return the blocks that prompts of several sampled rows have."""
    first: dict[int, int] = {}
    shared: set[int] = set()
    for call in calls:
        for block in call.sampled.blocks:
            if first.setdefault(block, call.sampled.row) != call.sampled.row:
                shared.add(block)
    return frozenset(shared)
