"""The modelled KV cache: who holds what, what is evicted, and what that does to requests."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.engines.base import Usage
from sundog.engines.modelled.block_table import BlockTable, Held, block_keys
from sundog.engines.modelled.null import MODELLED_BLOCK_TOKENS, NullEngine, NullKind, NullOptions
from sundog.errors import PromptTooLong
from sundog.host.virtual_loop import run_virtually
from sundog.secrets import Secrets
from tests.engines.conformance import ask_for, collect

STEP_TIME = (1.0, 0.0, 0.0, 0.0, 0.0)


def test_a_prefix_is_found_until_its_room_is_needed() -> None:
    table = BlockTable(num_blocks=4, block_tokens=10)
    first = table.take((1, 2), 25)
    assert first is not None
    assert first.num_cached_tokens == 0
    assert table.num_available == 1
    second = table.take((1, 2), 20)
    assert second is not None
    assert second.num_cached_tokens == 19, "the last token is always computed"
    table.free(first)
    table.free(second)
    assert table.num_available == 4
    other = table.take((7, 8), 20)
    assert other is not None
    again = table.take((1, 2), 20)
    assert again is not None
    assert again.num_cached_tokens == 19, "idle blocks are evicted last block first, so the prefix is still there"


def test_no_room_is_told_and_takes_nothing() -> None:
    table = BlockTable(num_blocks=3, block_tokens=10)
    held = table.take((1, 2), 20)
    assert held is not None
    assert table.take((3, 4), 20) is None
    assert table.num_available == 1
    assert table.extend(held)
    assert table.num_available == 0
    assert table.extend(held, 9)
    assert not table.extend(held)


@given(st.lists(st.tuples(st.lists(st.integers(0, 4), max_size=4), st.integers(1, 30), st.booleans()), max_size=30))
def test_blocks_are_never_more_than_there_are(prompts: list[tuple[list[int], int, bool]]) -> None:
    table = BlockTable(num_blocks=5, block_tokens=10)
    held: list[Held] = []
    for path, num_more, frees in prompts:
        keys = tuple(hash(tuple(path[: end + 1])) for end in range(len(path)))
        taken = table.take(keys, 10 * len(keys) + num_more)
        if taken is not None:
            assert taken.num_cached_tokens < 10 * len(keys) + num_more
            held.append(taken)
        if frees and held:
            table.free(held.pop(0))
        in_use = {key for one in held for key in one.keys}
        assert table.num_available == 5 - len(in_use) >= 0


def test_keys_stand_for_all_text_before_them() -> None:
    assert len(block_keys("a" * 25, 10)) == 2
    assert block_keys("a" * 20, 10)[0] == block_keys("a" * 10, 10)[0]
    assert block_keys("b" * 10 + "a" * 10, 10)[1] != block_keys("a" * 20, 10)[1]


async def opened(max_kv_tokens: int) -> NullEngine:
    options = NullOptions(step_time=STEP_TIME, max_step_tokens=4096, max_kv_tokens=max_kv_tokens, output_tokens=40)
    engine = NullKind().open(options, 0, Secrets({}))
    await engine.start()
    return engine


def both(*texts: str, max_kv_tokens: int) -> list[Usage]:
    async def main() -> list[Usage]:
        engine = await opened(max_kv_tokens)
        assert engine.capabilities().max_kv_tokens == max_kv_tokens
        answers = await asyncio.gather(*(collect(engine, ask_for(text)) for text in texts))
        await engine.close()
        return [answer.usage for answer in answers]

    return run_virtually(main())


def test_a_request_reads_what_another_one_computes() -> None:
    text = "x" * 4 * MODELLED_BLOCK_TOKENS * 3
    first, second = both(text + "a", text + "b", max_kv_tokens=1024)
    assert (first.num_cached_tokens, second.num_cached_tokens) == (0, 3 * MODELLED_BLOCK_TOKENS)


def test_requests_without_room_wait_and_are_all_answered() -> None:
    """Room for one at a time: the second is computed when the first has left."""
    usages = both(
        *(letter * 4 * MODELLED_BLOCK_TOKENS * 3 for letter in "abc"), max_kv_tokens=5 * MODELLED_BLOCK_TOKENS
    )
    assert [usage.num_output_tokens for usage in usages] == [40, 40, 40]


def test_the_last_to_come_makes_room_for_the_others() -> None:
    """Both prompts fit, their answers do not."""

    async def main() -> tuple[int, int]:
        engine = await opened(6 * MODELLED_BLOCK_TOKENS)
        texts = ("a" * 4 * (2 * MODELLED_BLOCK_TOKENS - 1), "b" * 4 * (2 * MODELLED_BLOCK_TOKENS - 1))
        answers = await asyncio.gather(*(collect(engine, ask_for(text)) for text in texts))
        assert engine._steps is not None
        num_preemptions = engine._steps.replica.num_preemptions
        await engine.close()
        return num_preemptions, len(answers)

    assert run_virtually(main()) == (1, 2)


def test_what_can_never_fit_is_refused() -> None:
    with pytest.raises(PromptTooLong, match="the engine holds 64"):
        both("x" * 4 * 80, max_kv_tokens=64)


def test_a_cache_needs_steps() -> None:
    with pytest.raises(ValueError, match="needs step_time"):
        NullOptions(max_kv_tokens=1024)
