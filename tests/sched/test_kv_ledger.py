"""The ledger counts each block once, whoever comes and goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sundog.sched.books.kv_ledger import KVLedger


def test_a_common_prefix_is_counted_once() -> None:
    ledger = KVLedger()
    ledger.hold("a", (1, 2, 3), 400, 50)
    assert ledger.num_tokens == 450
    assert ledger.num_further_tokens((1, 2, 9), 400, 50) == 250
    ledger.hold("b", (1, 2, 9), 400, 50)
    assert ledger.num_tokens == 700
    ledger.release("a")
    assert ledger.num_tokens == 450
    ledger.release("b")
    assert ledger.num_tokens == 0


def test_what_goes_with_each_owner_and_what_stays() -> None:
    ledger = KVLedger()
    ledger.hold("a", (1, 2, 3), 400, 50)
    assert ledger.split_beside(()) == (0, {"a": 400})
    assert ledger.split_beside((1, 2, 9)) == (200, {"a": 200}), "were another there with two of its blocks"
    ledger.hold("b", (1, 2, 9), 400, 70)
    assert ledger.split_beside((7,)) == (200, {"a": 200, "b": 200})
    ledger.hold("c", (1, 8), 300, 10)
    assert ledger.split_beside((2, 3, 8)) == (400, {"a": 100, "b": 200, "c": 100})
    ledger.release("a")
    assert ledger.split_beside(()) == (100, {"b": 300, "c": 200})
    assert ledger.num_other_tokens("b") == 70


@given(st.lists(st.tuples(st.lists(st.integers(0, 3), max_size=4, unique=True), st.integers(0, 50)), max_size=12))
def test_what_is_held_is_the_union_of_all_keys(prompts: list[tuple[list[int], int]]) -> None:
    """Blocks have ten tokens; whoever holds, `num_further_tokens` foretells the next one."""
    ledger = KVLedger()
    held: dict[str, tuple[list[int], int]] = {}
    for number, (key, num_output_tokens) in enumerate(prompts):
        num_prompt_tokens = 10 * (len(key) + 1)
        further = ledger.num_further_tokens(tuple(key), num_prompt_tokens, num_output_tokens)
        before = ledger.num_tokens
        ledger.hold(str(number), tuple(key), num_prompt_tokens, num_output_tokens)
        held[str(number)] = key, num_output_tokens
        assert ledger.num_tokens == before + further
        if num_output_tokens % 3 == 0:
            ledger.release(str(number // 2)) if str(number // 2) in held else None
            held.pop(str(number // 2), None)
        blocks = {block for key, _ in held.values() for block in key}
        num_shared, own = ledger.split_beside(())
        assert (
            num_shared
            == ledger.num_shared_tokens
            == 10 * sum(sum(block in key for key, _ in held.values()) > 1 for block in blocks)
        )
        assert num_shared + sum(own.values()) == ledger.num_tokens - sum(output for _, output in held.values())
        assert ledger.num_tokens == 10 * len(blocks) + sum(10 + output for _, output in held.values())
