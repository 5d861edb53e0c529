"""The estimate of one step of a plan: calls, tokens, seconds, dollars, each with its range.

Owns the arithmetic from a sample of rows to the whole batch. Never reads rows, never renders: see prompt_sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence, Set
from dataclasses import dataclass
from statistics import fmean

from sundog.cost.estimate import NOTHING, Estimate, distinct_of, sum_of, total_of
from sundog.cost.profile import Profile
from sundog.cost.prompt_sample import SampledCall
from sundog.cost.step_time import StepWork, call_work
from sundog.tokens import TokenPrices

REUSED = "num_reused"
"""The calls of a step that has run which results of other runs answered. No estimate counts on them."""


@dataclass(frozen=True, slots=True)
class RowSample:
    """The rows that an estimate was made from, chosen at random; all rows make every count exact."""

    #: Rows in the sample.
    num_sampled: int
    #: Rows of the input.
    num_rows: int


@dataclass(frozen=True, slots=True)
class CallCost:
    """Calls of a step: asked for by the rows, and executed once equal ones are shared."""

    num_asked: Estimate
    num_executed: Estimate

    def __add__(self, other: CallCost) -> CallCost:
        return CallCost(self.num_asked + other.num_asked, self.num_executed + other.num_executed)


@dataclass(frozen=True, slots=True)
class TokenCost:
    """Tokens of an LLM step."""

    #: Prompt tokens if every call were executed.
    prompt_asked: Estimate
    #: Prompt tokens of the executed calls.
    prompt: Estimate
    #: Tokens of `prompt` that are in no prefix cache.
    prompt_computed: Estimate
    #: Answer tokens of the executed calls.
    output: Estimate
    #: Answer tokens if every call were executed.
    output_asked: Estimate

    def __add__(self, other: TokenCost) -> TokenCost:
        return TokenCost(
            self.prompt_asked + other.prompt_asked,
            self.prompt + other.prompt,
            self.prompt_computed + other.prompt_computed,
            self.output + other.output,
            self.output_asked + other.output_asked,
        )

    def with_error(self, error: float) -> TokenCost:
        """Return this cost where prompt tokens were counted with a relative error of up to `error`."""
        off = Estimate(1 - error, 1.0, 1 + error)
        prompts = self.prompt_asked * off, self.prompt * off, self.prompt_computed * off
        return TokenCost(*prompts, self.output, self.output_asked)


NO_CALLS = CallCost(NOTHING, NOTHING)
NO_TOKENS = TokenCost(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)


def count_calls(
    calls: Sequence[SampledCall],
    sample: RowSample,
    passing: Estimate,
    *,
    is_shared: bool,
    made: Set[Hashable] = frozenset(),
) -> CallCost:
    """Return how many calls of one step are asked for and executed.

    `calls`: of all sampled rows. `passing`: how many of them there will be for each that is listed, as far as that is
    not known yet. `made`: signatures of calls that other steps have made, which are not executed again.
    """
    per_row = Counter(call.row for call in calls)
    counts = [float(count) for count in per_row.values()] + [0.0] * (sample.num_sampled - len(per_row))
    num_asked = total_of(counts, sample.num_rows) * passing
    if not is_shared:
        return CallCost(num_asked, num_asked)
    # A value that many calls share is executed if any of them passes: the share of values is at least that of calls.
    wide = Estimate(passing.low, passing.expected, max(1.0, passing.high))
    num_distinct = _distinct([(call.row, call.signature) for call in calls if call.signature not in made], sample)
    return CallCost(num_asked, (num_distinct * wide).at_most(num_asked))


def estimate_tokens(
    calls: Sequence[SampledCall],
    sample: RowSample,
    cost: CallCost,
    output_tokens: Estimate,
    *,
    is_shared: bool,
    block_tokens: int | None,
    warm: Set[int] = frozenset(),
    made: Set[Hashable] = frozenset(),
) -> TokenCost:
    """Return the tokens of one LLM step's calls.

    `output_tokens`: mean of one answer. `block_tokens`: of the engine's prefix cache, None where there is none; `warm`:
    blocks that earlier steps of the batch leave there. The cache is taken to hold a block until its last reader; a
    smaller one computes up to `prompt` tokens. `made`: as in `count_calls`.
    """
    executed = executed_of(calls, is_shared=is_shared, made=made)
    if not calls:
        return NO_TOKENS
    prompt_asked = _mean([call.num_prompt_tokens for call in calls], sample) * cost.num_asked
    output_asked = output_tokens * cost.num_asked
    if not executed:
        return TokenCost(prompt_asked, NOTHING, NOTHING, NOTHING, output_asked)
    prompt = _mean([call.num_prompt_tokens for call in executed], sample) * cost.num_executed
    computed = prompt
    if block_tokens is not None:
        read = [(call.row, block) for call in executed for block in call.blocks]
        fresh = _distinct([(row, block) for row, block in read if block not in warm], sample) * block_tokens
        # Calls that may not happen read some of the blocks; one that many of them read is read if any of them happens.
        listed = [(call.row, call.signature if is_shared else number) for number, call in enumerate(calls)]
        num_listed = _distinct([one for one in listed if one[1] not in made], sample).expected
        low, expected, _ = (min(1.0, end / num_listed) for end in _ends(cost.num_executed))
        fresh *= Estimate(low, expected, 1.0) if expected < 1.0 else Estimate.exactly(1.0)
        tail = _mean([_beyond(call, block_tokens) for call in executed], sample) * cost.num_executed
        # Where a block of text to come ends is not known: each such prompt may share one more, or one less.
        share = sum(not call.is_known for call in executed) / len(executed)
        margin = share * block_tokens * cost.num_executed.high
        found = fresh + tail
        computed = Estimate(max(0.0, found.low - margin), found.expected, found.high + margin).at_most(prompt)
    return TokenCost(prompt_asked, prompt, computed, output_tokens * cost.num_executed, output_asked)


def executed_of(
    calls: Sequence[SampledCall], *, is_shared: bool, made: Set[Hashable] = frozenset()
) -> Sequence[SampledCall]:
    """Return those of the sampled calls that are executed: one of each kind where they are shared."""
    if not is_shared:
        return calls
    return list({call.signature: call for call in calls if call.signature not in made}.values())


def estimate_seconds(cost: CallCost, tokens: TokenCost, profile: Profile, *, num_replicas: int = 1) -> Estimate:
    """Return the seconds of `num_replicas` equal engines that have nothing else to do.

    The batch: as many requests decode at once as the profile's limits allow, or as there are; prompts are computed in
    the same steps, in what room is left. Low: no step of either kind is short of the other. High: they never meet, and
    the last requests end one by one. The profile's error on held-out steps (nine in ten) widens both ends.
    """
    error = profile.held_out.p90
    ends = zip(
        _ends(cost.num_executed),
        _ends(tokens.prompt),
        _ends(tokens.prompt_computed),
        _ends(tokens.output),
        (False, False, True),
        strict=True,
    )
    low, expected, high = sorted(
        _seconds(calls / num_replicas, prompt / calls, computed / calls, output / calls, profile, is_apart=is_apart)
        if calls > 0
        else 0.0
        for calls, prompt, computed, output, is_apart in ends
    )
    return Estimate(max(0.0, low * (1 - error)), expected, high * (1 + error))


def estimate_tool_seconds(cost: CallCost, call_s: Estimate, max_concurrency: int) -> Estimate:
    """Return the seconds of a tool that answers up to `max_concurrency` calls at once; `call_s`: mean of one call."""
    return call_s * cost.num_executed * (1 / max_concurrency)


def estimate_dollars(tokens: TokenCost, prices: TokenPrices) -> Estimate:
    """Return the price of these tokens. A cached prompt token costs as much as another where `prices` name no price of
    its own."""
    cached_usd = prices.cached_input_usd_per_mtok
    if cached_usd is None:
        cached_usd = prices.input_usd_per_mtok
    ends = zip(_ends(tokens.prompt), _ends(tokens.prompt_computed), strict=True)
    cached = Estimate(*sorted(max(0.0, prompt - computed) for prompt, computed in ends))
    parts = (
        tokens.prompt_computed * prices.input_usd_per_mtok,
        cached * cached_usd,
        tokens.output * prices.output_usd_per_mtok,
    )
    return sum_of(parts) * 1e-6


def _seconds(
    num_calls: float, prompt: float, computed: float, output: float, profile: Profile, *, is_apart: bool
) -> float:
    """Return the seconds of `num_calls` equal calls on one engine, with the tokens of each; `is_apart`: no step holds
    both kinds."""
    limits = profile.limits
    work = call_work(prompt, max(0.0, prompt - computed), output) * num_calls
    decode_steps = work.num_decode_tokens / max(1.0, min(limits.max_decode_requests, num_calls))
    if is_apart:
        num_steps = work.num_prefill_tokens / limits.max_step_tokens + decode_steps + output
    else:
        num_steps = max((work.num_prefill_tokens + work.num_decode_tokens) / limits.max_step_tokens, decode_steps)
    return profile.step_time.seconds(work + StepWork(num_steps=num_steps))


def _distinct(seen: Sequence[tuple[int, Hashable]], sample: RowSample) -> Estimate:
    """Return the number of distinct values of the whole batch, from (row, value) pairs of the sample."""
    rows = Counter(value for _, value in set(seen))
    return distinct_of(rows.values(), sample.num_sampled, sample.num_rows)


def _mean(estimates: Sequence[Estimate], sample: RowSample) -> Estimate:
    """Return their mean over the whole batch: its range has theirs and that of sampling."""
    low, expected, high = (fmean(end) for end in zip(*map(_ends, estimates), strict=True))
    scale = len(estimates) / sample.num_sampled
    num_in_all = max(len(estimates), round(sample.num_rows * scale))
    sampling = total_of([one.expected for one in estimates], num_in_all) * (1 / num_in_all)
    below, above = expected - low + expected - sampling.low, high - expected + sampling.high - expected
    return Estimate(max(0.0, expected - max(0.0, below)), expected, expected + max(0.0, above))


def _beyond(call: SampledCall, block_tokens: int) -> Estimate:
    """Return the tokens after the known full blocks."""
    in_blocks = len(call.blocks) * block_tokens
    return Estimate(*(max(1.0, end - in_blocks) for end in _ends(call.num_prompt_tokens)))


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.low, estimate.expected, estimate.high
