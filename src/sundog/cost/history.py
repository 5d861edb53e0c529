"""The record of earlier runs of a flow's steps: lengths of answers, time of calls, how often conditions hold.

Owns the histograms and what is read from them. Never reads or writes a file: measured.node_history does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, exp, log, sqrt

from sundog.cost.estimate import Estimate, share_of

# Buckets 5 % wide: a quantile is off by 2.5 % at most.
_LOG_WIDTH = log(1.05)
ZERO_BUCKET = -(2**31)
MIN_TOLD = 5
MIN_CONVERSATIONS = 10
"""Fewer conversations say nothing of the next turn."""
MAX_TOLD_TURN = 26
"""The buckets of a histogram hold one number of turns each up to here."""
RUNS_ERROR = 0.1
"""The relative error of what runs tell as a whole where they agree: the next rows are others."""
# A tool that was never timed is taken to answer in 10 ms, give or take a factor of ten.
ASSUMED_TOOL_S = Estimate(0.001, 0.01, 0.1)
# A call of an engine that was never timed is taken to have a place to itself for so long.
ASSUMED_CALL_S = Estimate(0.01, 0.1, 1.0)


def bucket_of(value: float) -> int:
    """Return the bucket of a histogram that holds a positive value."""
    return round(log(value) / _LOG_WIDTH)


@dataclass(slots=True)
class Histogram:
    """Non-negative values in geometric buckets; sums of histograms are exact."""

    #: Values by bucket; bucket b holds those near 1.05^b.
    counts: dict[int, int] = field(default_factory=dict)
    #: Sum of the values themselves.
    total: float = 0.0
    #: Sum of their squares.
    squares: float = 0.0

    def add(self, value: float) -> None:
        bucket = ZERO_BUCKET if value <= 0 else bucket_of(value)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total += value
        self.squares += value * value

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def near(self, value: float) -> int:
        """Return how many values are in the bucket of `value`."""
        return self.counts.get(bucket_of(value), 0)

    @property
    def mean(self) -> float:
        """The mean of at least one value."""
        return self.total / self.count

    @property
    def spread(self) -> float:
        """The standard deviation; that of one value is the value itself."""
        count = self.count
        if count < 2:
            return self.total
        variance = (self.squares - self.total * self.total / count) / (count - 1)
        return sqrt(max(0.0, variance))

    def share_at_least(self, value: float) -> tuple[int, int]:
        """Return how many of how many values are at least `value`, within half a bucket."""
        bound = bucket_of(value)
        return sum(count for bucket, count in self.counts.items() if bucket >= bound), self.count

    def quantile(self, share: float) -> float:
        """Return the value that `share` of at least one value do not exceed, within 2.5 %."""
        left = max(1, ceil(share * self.count))
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return 0.0 if bucket == ZERO_BUCKET else exp(bucket * _LOG_WIDTH)
        raise AssertionError("a quantile of nothing")


@dataclass(frozen=True, slots=True)
class Summary:
    count: int
    mean: float
    p50: float
    p90: float


@dataclass(slots=True)
class NodeRecord:
    """This class holds what is known of one node with one model."""

    output_tokens: Histogram = field(default_factory=Histogram)
    #: Seconds of executed calls, without their wait.
    call_s: Histogram = field(default_factory=Histogram)
    #: The number of times that its `when`, or a filter's predicate, was true, out of `num_judged`.
    num_held: int = 0
    num_judged: int = 0
    prompt_tokens: Histogram = field(default_factory=Histogram)
    #: The same prompts as they were counted before the calls: from characters where the tokenizer is not here.
    counted_tokens: Histogram = field(default_factory=Histogram)
    #: Lengths of the lists that `for_each` fanned out over.
    num_items: Histogram = field(default_factory=Histogram)
    #: Turns of a loop.
    num_turns: Histogram = field(default_factory=Histogram)
    #: Lengths of results as JSON.
    result_bytes: Histogram = field(default_factory=Histogram)
    #: The rows of a table for each done row of the tables that its query reads, one value a run.
    num_children: Histogram = field(default_factory=Histogram)
    #: The executed calls of a step of such a table for each that was asked for, one value a run that found no results
    #: of others.
    executed_share: Histogram = field(default_factory=Histogram)
    #: The turns of an agent after which this step, one of its tools, was used: one value a turn.
    after_turns: Histogram = field(default_factory=Histogram)


# By (node, model); the model of a step without an engine, and of what no model decides, is "".
History = Mapping[tuple[str, str], NodeRecord]


def summary(histogram: Histogram) -> Summary | None:
    """Return the summary; None for an empty histogram."""
    if not histogram.counts:
        return None
    return Summary(histogram.count, histogram.mean, histogram.quantile(0.5), histogram.quantile(0.9))


def mean_of(known: Histogram, num_calls: float) -> Estimate | None:
    """Return the mean over `num_calls` further calls; None where nothing is known.

    Both what is known and what is to come are samples. Below MIN_TOLD values their own spread is not to be trusted: the
    mean itself is taken for it.
    """
    if not known.counts:
        return None
    count = known.count
    spread = max(known.spread, known.mean) if count < MIN_TOLD else known.spread
    return Estimate.around(known.mean, 1.645 * spread * (1 / count + 1 / max(1.0, num_calls)) ** 0.5)


def tokens_per_counted(record: NodeRecord | None) -> float | None:
    """Return how many tokens a prompt had for each that was counted before its call; None where no run tells."""
    if record is None or not (record.counted_tokens.counts and record.prompt_tokens.total):
        return None
    return record.prompt_tokens.mean / record.counted_tokens.mean


def mean_result_bytes(record: NodeRecord | None) -> float | None:
    """Return the mean length of a step's results as JSON; None where no run tells."""
    return None if record is None or not record.result_bytes.counts else record.result_bytes.mean


def tool_call_s(record: NodeRecord | None, num_calls: float) -> Estimate:
    """Return the mean seconds of a tool's call; ASSUMED_TOOL_S where none was ever timed."""
    known = None if record is None else mean_of(record.call_s, num_calls)
    return ASSUMED_TOOL_S if known is None else known


def output_tokens(record: NodeRecord | None, num_calls: float, max_tokens: int) -> Estimate:
    """Return the mean tokens of an answer. Without history: anything up to `max_tokens`, and half of it expected."""
    known = None if record is None else mean_of(record.output_tokens, num_calls)
    limit = Estimate.exactly(max_tokens)
    return Estimate(1.0, (1 + max_tokens) / 2, max_tokens) if known is None else known.at_most(limit)


def children_per_row(record: NodeRecord | None) -> Estimate | None:
    """Return how many rows a table has for each row of the tables that it reads; None where no run tells. One run
    tells it within a factor of two."""
    return None if record is None else _told_by_runs(record.num_children)


def executed_share(record: NodeRecord | None) -> Estimate | None:
    """Return how many calls of a step are executed for each that is asked for; None where no run tells. One run tells
    it within a factor of two."""
    found = None if record is None else _told_by_runs(record.executed_share)
    return None if found is None else found.at_most(Estimate.exactly(1.0))


def ended_share(record: NodeRecord | None, turn: int) -> float | None:
    """Return the share of the conversations of an agent that ended with a turn, of those that got to it; None where
    runs tell too little. Turns count from 1."""
    num_reached = _num_reached(record, turn)
    if record is None or num_reached < MIN_CONVERSATIONS:
        return None
    return record.num_turns.near(turn) / num_reached


def turns_to_come(record: NodeRecord | None, turn: int) -> float | None:
    """Return the mean number of turns that followed a turn of an agent; None where runs tell too little."""
    if record is None or _num_reached(record, turn) < MIN_CONVERSATIONS:
        return None
    reached = [(bucket, count) for bucket, count in record.num_turns.counts.items() if bucket >= bucket_of(turn)]
    num_more = sum(count * (round(exp(bucket * _LOG_WIDTH)) - turn) for bucket, count in reached)
    return max(0.0, num_more / sum(count for _, count in reached))


def likeliest_tool(
    agent: NodeRecord | None, tools: Mapping[str, NodeRecord | None], turn: int
) -> tuple[str, float] | None:
    """Return which of an agent's `tools`, by their steps, was used after a turn most often, and the share of the
    conversations that got to this turn and used it then; None where runs tell too little."""
    num_reached = _num_reached(agent, turn)
    if num_reached < MIN_CONVERSATIONS:
        return None
    used = {step: 0 if record is None else record.after_turns.near(turn) for step, record in tools.items()}
    step = max(used, key=lambda one: used[one], default=None)
    return None if step is None or not used[step] else (step, min(1.0, used[step] / num_reached))


def mean_call_s(history: History) -> dict[str, float]:
    """Return by step the mean seconds of its calls, of those that were ever timed."""
    timed: dict[str, tuple[float, int]] = {}
    for (step, _), record in history.items():
        total_s, count = timed.get(step, (0.0, 0))
        timed[step] = total_s + record.call_s.total, count + record.call_s.count
    return {step: total_s / count for step, (total_s, count) in timed.items() if count}


def _num_reached(record: NodeRecord | None, turn: int) -> int:
    if record is None or turn > MAX_TOLD_TURN:
        return 0
    return record.num_turns.share_at_least(turn)[0]


def _told_by_runs(told: Histogram) -> Estimate | None:
    """Return what another run will tell."""
    if not told.counts:
        return None
    if told.count == 1:
        return Estimate(told.mean / 2, told.mean, told.mean * 2)
    margin = max(RUNS_ERROR * told.mean, 1.645 * told.spread * (1 / told.count + 1) ** 0.5)
    return Estimate.around(told.mean, margin)


def selectivity(record: NodeRecord | None) -> Estimate:
    """Return the share of rows for which a condition holds; anything from 0 to 1 without history."""
    return share_of(0, 0) if record is None else share_of(record.num_held, record.num_judged)
