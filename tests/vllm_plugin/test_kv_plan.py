"""The decisions of the scheduler's side, on requests as vLLM has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from sundog.vllm_plugin.kv.decision import PrefillCost
from sundog.vllm_plugin.kv.plan import KVLoad, KVPlan, KVSave, MeasuredKVLoad

BLOCK_TOKENS = 4


@dataclass
class FakeRequest:
    """A request of `num_tokens` known tokens, with the hashes of its full blocks."""

    num_tokens: int
    request_id: str = "r"
    num_computed_tokens: int = 0
    num_preemptions: int = 0
    lora_request: Any = None
    mm_features: Sequence[Any] = field(default_factory=list)

    @property
    def block_hashes(self) -> list[bytes]:
        return [bytes([number]) for number in range(self.num_tokens // BLOCK_TOKENS)]


def keys(*numbers: int) -> tuple[bytes, ...]:
    return tuple(bytes([number]) for number in numbers)


def make_plan(
    stored: Sequence[bytes] = (), prefill: PrefillCost | None = None, *, may_load: bool = True, may_save: bool = True
) -> KVPlan:
    held = set(stored)
    return KVPlan(held.__contains__, BLOCK_TOKENS, 10, prefill, 1e-6, may_load=may_load, may_save=may_save)


def block_ids(request_id: str) -> list[int]:
    return list(range(100, 120))


@pytest.mark.parametrize(
    ("num_tokens", "num_computed_tokens", "stored", "num_loadable_tokens"),
    [
        (17, 0, keys(0, 1, 2, 3), 16),
        # The last token is computed: of 16 tokens the last block is not loaded.
        (16, 0, keys(0, 1, 2, 3), 12),
        (17, 0, keys(0, 1), 8),
        (17, 0, keys(0, 2, 3), 4),
        (17, 0, keys(1, 2, 3), 0),
        (17, 8, keys(2, 3), 8),
        (17, 16, keys(0, 1, 2, 3), 0),
        (3, 0, keys(0), 0),
        (17, 0, (), 0),
    ],
)
def test_the_longest_prefix_in_the_store_is_loaded(
    num_tokens: int, num_computed_tokens: int, stored: tuple[bytes, ...], num_loadable_tokens: int
) -> None:
    plan = make_plan(stored)
    request = FakeRequest(num_tokens)
    for _ in range(2):
        assert plan.num_loadable_tokens(request, num_computed_tokens) == num_loadable_tokens


def test_a_load_names_its_blocks() -> None:
    plan = make_plan(keys(1, 2))
    request = FakeRequest(17)
    assert plan.num_loadable_tokens(request, 4) == 8
    plan.allocated(request, block_ids("r"), 8)
    step = plan.step({}, block_ids)
    assert step.loads == [KVLoad("r", (101, 102), keys(1, 2))]
    assert step.is_idle
    assert plan.step({}, block_ids).loads == []
    plan.loaded(1, [])
    assert not plan.step({}, block_ids).is_idle


def test_waiting_for_a_load_must_delay_nobody() -> None:
    plan = make_plan(keys(0))
    loading, running = FakeRequest(9), FakeRequest(9, "other")
    plan.num_loadable_tokens(loading, 0)
    plan.allocated(loading, block_ids("r"), 4)
    plan.allocated(running, block_ids("other"), 0)
    assert not plan.step({"other": 9}, block_ids).is_idle


def test_a_load_is_tried_once_and_again_after_a_preemption() -> None:
    plan = make_plan(keys(0))
    request = FakeRequest(9)
    assert plan.num_loadable_tokens(request, 0) == 4
    plan.allocated(request, block_ids("r"), 4)
    assert plan.num_loadable_tokens(request, 0) == 0
    request.num_preemptions = 1
    assert plan.num_loadable_tokens(request, 0) == 4


def test_every_block_that_fills_is_saved_once() -> None:
    plan = make_plan()
    request = FakeRequest(10)
    plan.allocated(request, block_ids("r"), 0)
    assert plan.step({"r": 6}, block_ids).saves == [KVSave((100,), keys(0))]
    request.num_computed_tokens = 6
    assert plan.step({"r": 4}, block_ids).saves == [KVSave((101,), keys(1))]
    request.num_computed_tokens = 10
    for num_tokens in (11, 12):
        request.num_tokens = num_tokens
        saves = plan.step({"r": 1}, block_ids).saves
        request.num_computed_tokens = num_tokens
    assert saves == [KVSave((102,), keys(2))]


def test_drafted_tokens_fill_no_block() -> None:
    plan = make_plan()
    request = FakeRequest(6)
    plan.allocated(request, block_ids("r"), 0)
    plan.step({"r": 6}, block_ids)
    request.num_tokens, request.num_computed_tokens = 7, 6
    assert plan.step({"r": 5}, block_ids).saves == []


def test_what_the_engine_or_the_store_had_is_marked_and_not_saved() -> None:
    plan = make_plan()
    request = FakeRequest(17, num_computed_tokens=8)
    plan.allocated(request, block_ids("r"), 0)
    step = plan.step({"r": 9}, block_ids)
    assert step.used == [keys(0, 1)]
    assert step.saves == [KVSave((102, 103), keys(2, 3))]


def test_a_request_that_starts_over_saves_nothing_twice() -> None:
    plan = make_plan()
    request = FakeRequest(17)
    plan.allocated(request, block_ids("r"), 0)
    assert len(plan.step({"r": 8}, block_ids).saves) == 1
    request.num_computed_tokens, request.num_preemptions = 0, 1
    plan.allocated(request, block_ids("r"), 0)
    assert plan.step({"r": 8}, block_ids).saves == []


@pytest.mark.parametrize("change", [{"lora_request": "adapter"}, {"mm_features": ["picture"]}])
def test_adapters_and_media_are_not_shared(change: dict[str, Any]) -> None:
    plan = make_plan(keys(0, 1))
    request = FakeRequest(17, **change)
    assert plan.num_loadable_tokens(request, 0) == 0
    plan.allocated(request, block_ids("r"), 0)
    assert plan.step({"r": 17}, block_ids).saves == []


def test_roles() -> None:
    request = FakeRequest(17)
    assert make_plan(keys(0), may_load=False).num_loadable_tokens(request, 0) == 0
    plan = make_plan(keys(0), may_save=False)
    assert plan.num_loadable_tokens(request, 0) == 4
    plan.allocated(request, block_ids("r"), 0)
    assert plan.step({"r": 17}, block_ids).saves == []


def test_loads_that_went_badly_stop_loading_for_a_while() -> None:
    # 10 bytes a token: 10 us to load at first, 50 us to compute.
    plan = make_plan(keys(0, 1), PrefillCost(50e-6))
    request = FakeRequest(9)
    assert plan.num_loadable_tokens(request, 0) == 8
    plan.loaded(0, [MeasuredKVLoad(1000, 1.0), MeasuredKVLoad(1000, 2.0)])
    assert plan.load_s_per_byte == 1.5e-3
    assert [plan.num_loadable_tokens(request, 0) for _ in range(3)] == [0, 0, 8]


def test_a_finished_request_leaves_no_trace() -> None:
    plan = make_plan(keys(0))
    request = FakeRequest(9)
    plan.num_loadable_tokens(request, 0)
    plan.allocated(request, block_ids("r"), 4)
    plan.finished("r")
    assert plan.num_loadable_tokens(request, 0) == 4
