"""A step's costs against the truth: every row rendered, every call shared, every step modelled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from sundog.cost.estimate import NOTHING, Estimate
from sundog.cost.node_cost import (
    CallCost,
    RowSample,
    TokenCost,
    count_calls,
    estimate_dollars,
    estimate_seconds,
    estimate_tokens,
    estimate_tool_seconds,
)
from sundog.cost.profile import Profile, StepLimits, least_seconds
from sundog.cost.prompt_sample import (
    IMAGE_TOKENS,
    MeasuredPrompt,
    SampledCall,
    Texts,
    Upstream,
    sample_call,
    text_blocks,
)
from sundog.cost.step_time import FitError, StepTime, StepWork, call_work, decode_work, prefill_work
from sundog.engines.base import GenerateRequest, Message
from sundog.engines.modelled.null import NullKind, NullOptions
from sundog.host.virtual_loop import run_virtually
from sundog.ir.conversations.written import FROM
from sundog.ir.templates.template import Template
from sundog.secrets import Secrets
from sundog.tokens import TokenPrices

CHARACTERS_PER_TOKEN = 4
BLOCK_TOKENS = 32
SECONDS = (10e-3, 1e-3, 1e-3, 5e-6, 1e-7)
NO_ERROR = FitError(1, 0.0, 0.0, 0.0)
PROFILE = Profile(StepTime(*SECONDS, SECONDS[3]), StepLimits(256, 16), NO_ERROR, NO_ERROR, {})
CONVERSATION = (
    ("system", Template("You read reports.")),
    ("user", Template("{{ row.report }} About {{ row.topic }}:")),
)
ONCE = Estimate.exactly(1.0)


def tokens_of(text: str) -> int:
    return len(text) // CHARACTERS_PER_TOKEN + 1


def measure(texts: Texts) -> MeasuredPrompt:
    num_tokens = tokens_of("".join(f"{role}\n{text}\n" for role, text in texts))
    return MeasuredPrompt(num_tokens, text_blocks(texts, BLOCK_TOKENS * CHARACTERS_PER_TOKEN))


def characters(texts: Texts) -> MeasuredPrompt:
    return MeasuredPrompt(sum(len(text) for _, text in texts), text_blocks(texts, 128))


def reports(seed: int, num_rows: int = 300) -> list[dict[str, Any]]:
    """About six rows share a report, and about two ask the same."""
    rng = random.Random(seed)
    texts = [f"report {i} " + "x" * rng.randrange(200, 3000) for i in range(num_rows // 6)]
    return [{"report": rng.choice(texts), "topic": f"topic {rng.randrange(3)}"} for _ in range(num_rows)]


def calls_of(rows: Sequence[tuple[int, dict[str, Any]]]) -> list[SampledCall]:
    return [sample_call(number, CONVERSATION, {"row": row}, {}, measure) for number, row in rows]


@dataclass(frozen=True)
class Truth:
    num_executed: int
    prompt: float
    computed: float


def truth_of(calls: Sequence[SampledCall]) -> Truth:
    distinct = list({call.signature: call for call in calls}.values())
    seen: set[int] = set()
    computed = 0.0
    for call in distinct:
        computed += call.num_prompt_tokens.expected - BLOCK_TOKENS * len(seen & set(call.blocks))
        seen |= set(call.blocks)
    return Truth(len(distinct), sum(call.num_prompt_tokens.expected for call in distinct), computed)


def estimated(rows: list[dict[str, Any]], sampled: list[int]) -> tuple[CallCost, TokenCost]:
    sample, calls = RowSample(len(sampled), len(rows)), calls_of([(number, rows[number]) for number in sampled])
    cost = count_calls(calls, sample, ONCE, is_shared=True)
    return cost, estimate_tokens(calls, sample, cost, Estimate.exactly(20), is_shared=True, block_tokens=BLOCK_TOKENS)


def test_a_sample_of_all_rows_is_exact() -> None:
    rows = reports(0)
    cost, tokens = estimated(rows, list(range(len(rows))))
    truth = truth_of(calls_of(list(enumerate(rows))))
    assert cost == CallCost(Estimate.exactly(300), Estimate.exactly(truth.num_executed))
    for found, is_true in ((tokens.prompt, truth.prompt), (tokens.prompt_computed, truth.computed)):
        assert (found.low, found.expected, found.high) == pytest.approx((is_true, is_true, is_true))


@pytest.mark.parametrize("num_sampled", [40, 150])
def test_ranges_hold_the_truth(num_sampled: int) -> None:
    hits, num_trials = [0, 0, 0], 60
    for seed in range(num_trials):
        rows = reports(seed)
        truth = truth_of(calls_of(list(enumerate(rows))))
        cost, tokens = estimated(rows, random.Random(seed).sample(range(len(rows)), num_sampled))
        hits[0] += truth.num_executed in cost.num_executed
        hits[1] += truth.prompt in tokens.prompt
        hits[2] += truth.computed in tokens.prompt_computed
    assert min(hits) / num_trials >= 0.9


def test_without_sharing_every_call_is_executed_and_computed() -> None:
    rows = reports(1, 60)
    sample, calls = RowSample(60, 60), calls_of(list(enumerate(rows)))
    cost = count_calls(calls, sample, Estimate(0.2, 0.5, 0.6), is_shared=False)
    assert cost.num_executed == cost.num_asked == Estimate(12, 30, 36)
    tokens = estimate_tokens(calls, sample, cost, Estimate.exactly(5), is_shared=False, block_tokens=None)
    assert tokens.prompt == tokens.prompt_computed
    assert tokens.output == Estimate(60, 150, 180)


def test_warm_blocks_are_not_computed_again() -> None:
    rows = reports(2, 60)
    sample, calls = RowSample(60, 60), calls_of(list(enumerate(rows)))
    cost = count_calls(calls, sample, ONCE, is_shared=True)
    warm = frozenset(block for call in calls for block in call.blocks)
    tokens = estimate_tokens(calls, sample, cost, ONCE, is_shared=True, block_tokens=BLOCK_TOKENS, warm=warm)
    assert tokens.prompt_computed.expected < BLOCK_TOKENS * 1.5 * cost.num_executed.expected


def test_a_step_that_never_runs_costs_nothing() -> None:
    sample = RowSample(10, 100)
    cost = count_calls([], sample, ONCE, is_shared=True)
    tokens = estimate_tokens([], sample, cost, Estimate.exactly(9), is_shared=True, block_tokens=32)
    assert (cost.num_asked, tokens.prompt, tokens.output) == (NOTHING, NOTHING, NOTHING)
    assert estimate_seconds(cost, tokens, PROFILE) == NOTHING


def test_text_to_come_stands_for_whose_it_is() -> None:
    conversation = (("user", Template("{{ row.a }} then {{ facts.text }} and {{ row.b }}{{ facts.n + 1 }}")),)
    upstream = {"facts": Upstream("one", Estimate(5, 10, 20))}
    scope = {"row": {"a": "a" * 300, "b": ["é"]}}
    call = sample_call(0, conversation, scope, upstream, characters)
    assert call.num_prompt_tokens == Estimate.exactly(len("a" * 300 + ' then  and ["é"]')) + Estimate(5, 10, 20)
    assert (call.num_gaps, call.guessed_tokens) == (1, Estimate(0, 10, 20)), "facts.n is no text of a known length"
    assert sample_call(1, conversation, scope, upstream, characters).signature == call.signature
    other = sample_call(0, conversation, scope, {"facts": Upstream("two", Estimate(5, 10, 20))}, characters)
    assert other.signature != call.signature
    assert other.blocks[:2] == call.blocks[:2]
    assert other.blocks[2] != call.blocks[2]
    longer = (("user", conversation[0][1]), ("assistant", Template("Yes.")), ("user", Template("Why? " * 60)))
    assert sample_call(0, longer, scope, upstream, characters).blocks[:3] == call.blocks[:3]


def test_text_that_nobody_can_tell_is_a_gap() -> None:
    conversation = (("user", Template("{{ row.a | upper }} {{ page.text }}")),)
    upstream = {"page": Upstream("page", None)}
    one, two = (sample_call(0, conversation, {"row": {"a": a}}, upstream, characters) for a in "xy")
    assert one.num_gaps == 2
    assert one.signature != two.signature, "a part that cannot be rendered alone still depends on what it reads"


def test_equal_prompts_of_different_templates_are_one_call() -> None:
    one, two = (
        sample_call(0, (("user", Template(source)),), {"row": {"a": "x"}}, {}, characters)
        for source in ("Say {{ row.a }}", "{{ 'Say x' }}")
    )
    assert one.signature == two.signature


@pytest.mark.parametrize(("num_calls", "num_prompt", "num_output"), [(100, 60, 20), (40, 400, 4), (8, 50, 40)])
def test_seconds_are_those_of_a_modelled_engine(num_calls: int, num_prompt: int, num_output: int) -> None:
    options = NullOptions(step_time=SECONDS, max_step_tokens=256, output_tokens=num_output)

    async def run() -> float:
        engine = NullKind().open(options, 0, Secrets({}))
        await engine.start()
        room = asyncio.Semaphore(PROFILE.limits.max_decode_requests)

        async def ask(number: int) -> None:
            async with room:
                text = f"{number:04}" + "x" * (num_prompt * CHARACTERS_PER_TOKEN - 5)
                async for _ in engine.generate(GenerateRequest(str(number), (Message("user", text),))):
                    pass

        await asyncio.gather(*(ask(number) for number in range(num_calls)))
        return asyncio.get_running_loop().time()

    actual_s = run_virtually(run())
    cost = CallCost(Estimate.exactly(num_calls), Estimate.exactly(num_calls))
    prompt, output = Estimate.exactly(num_calls * num_prompt), Estimate.exactly(num_calls * num_output)
    found = estimate_seconds(cost, TokenCost(prompt, prompt, prompt, output, output), PROFILE)
    assert actual_s in found
    assert found.expected == pytest.approx(actual_s, rel=0.2)
    bound_s = least_seconds(call_work(num_prompt, 0, num_output) * num_calls, PROFILE)
    assert bound_s <= actual_s


def test_the_error_of_the_profile_widens_the_range() -> None:
    profile = Profile(PROFILE.step_time, PROFILE.limits, NO_ERROR, FitError(9, 0.1, 0.1, 0.25), {})
    cost = CallCost(Estimate.exactly(50), Estimate.exactly(50))
    tokens = TokenCost(*(Estimate.exactly(50 * count) for count in (100, 100, 100, 20, 20)))
    sure, unsure = estimate_seconds(cost, tokens, PROFILE), estimate_seconds(cost, tokens, profile)
    assert (unsure.low, unsure.expected) == pytest.approx((sure.low * 0.75, sure.expected))
    assert unsure.high == pytest.approx(sure.high * 1.25)
    halved = estimate_seconds(cost, tokens, PROFILE, num_replicas=2)
    assert 0.45 * sure.expected < halved.expected < 0.7 * sure.expected


def test_the_bound_fills_every_step() -> None:
    limits = PROFILE.limits
    prefill = prefill_work(512)
    assert least_seconds(prefill, PROFILE) == pytest.approx(PROFILE.step_time.seconds(prefill + StepWork(num_steps=2)))
    decode = decode_work(1, 100) * 32
    assert least_seconds(decode, PROFILE) == pytest.approx(PROFILE.step_time.seconds(decode + StepWork(num_steps=2)))
    both = least_seconds(prefill + decode, PROFILE)
    assert both == pytest.approx(PROFILE.step_time.seconds(prefill + decode + StepWork(num_steps=544 / 256)))
    assert least_seconds(both_with_steps(prefill + decode), PROFILE) == pytest.approx(both)
    assert PROFILE.prefill_tokens_per_s == pytest.approx(256 / (10e-3 + 0.256 + 1e-7 * 256**2 / 2))
    assert PROFILE.decode_tokens_per_s == pytest.approx(16 / (10e-3 + 16 * (1e-3 + 5e-6)))
    assert limits == StepLimits(256, 16)


def both_with_steps(work: StepWork) -> StepWork:
    return work + StepWork(num_steps=99)


def test_dollars() -> None:
    tokens = TokenCost(*(Estimate.exactly(count) for count in (9e6, 3e6, 1e6, 2e6, 2e6)))
    prices = TokenPrices(input_usd_per_mtok=2, output_usd_per_mtok=8, cached_input_usd_per_mtok=0.5)
    assert estimate_dollars(tokens, prices).expected == pytest.approx(1 * 2 + 2 * 0.5 + 2 * 8)
    no_discount = TokenPrices(input_usd_per_mtok=2, output_usd_per_mtok=8)
    assert estimate_dollars(tokens, no_discount).expected == pytest.approx(3 * 2 + 2 * 8)


def test_tools_take_their_calls_side_by_side() -> None:
    cost = CallCost(Estimate.exactly(40), Estimate(10, 20, 40))
    assert estimate_tool_seconds(cost, Estimate(0.1, 0.2, 0.4), 4) == Estimate(0.25, 1.0, 4.0)


def test_messages_of_a_row_are_counted_as_they_are_sent() -> None:
    chat = [{"role": "user", "content": "a" * 40}, {"role": "assistant", "content": "b" * 40}]
    conversation = ((FROM, Template("{{ row.chat }}")), ("user", Template("c")))
    written = (("user", Template("a" * 40)), ("assistant", Template("b" * 40)), ("user", Template("c")))
    call = sample_call(0, conversation, {"row": {"chat": chat}}, {}, characters)
    assert call == sample_call(0, written, {}, {}, characters), "and is the same call"
    upstream = {"before": Upstream("one", None)}
    unknown = sample_call(0, ((FROM, Template("{{ before.messages }}")), *written), {}, upstream, characters)
    assert (unknown.num_gaps, unknown.is_known) == (1, False)
    assert unknown.num_prompt_tokens.expected > 0


def test_a_picture_counts_as_one_whatever_its_source_is() -> None:
    conversation = (("user", Template("What is it?")), ("image", Template("{{ row.photo }}")))
    short, long = (
        sample_call(0, conversation, {"row": {"photo": one}}, {}, characters) for one in ("a.png", "b" * 99_999)
    )
    plain = sample_call(0, conversation[:1], {}, {}, characters)
    assert short.num_prompt_tokens == long.num_prompt_tokens
    added = short.num_prompt_tokens.expected - plain.num_prompt_tokens.expected
    assert added == IMAGE_TOKENS * CHARACTERS_PER_TOKEN, "here a character is a token"
    assert short.signature != long.signature
