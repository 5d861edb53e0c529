"""The order of waiting requests."""

from __future__ import annotations

import pytest

from sundog.vllm_plugin.engine_types import EngineRequest
from sundog.vllm_plugin.waiting import MAX_REFRESHED_HEADS, MAX_REFRESHED_PER_STEP, WaitingQueue
from tests.vllm_plugin.fakes import FakeQueue, request


class Ranks:
    """Ranks by name; a name without one has no envelope."""

    def __init__(self, **ranks: float) -> None:
        self.ranks = ranks
        self.num_asked = 0

    def __call__(self, one: EngineRequest) -> tuple[float, ...] | None:
        self.num_asked += 1
        return (self.ranks[one.request_id],) if one.request_id in self.ranks else None


def queue(ranks: Ranks, *names: str) -> WaitingQueue:
    """Arrived in this order."""
    made = WaitingQueue(FakeQueue(), ranks)
    for number, name in enumerate(names):
        made.add_request(request(name, float(number)))
    return made


def drained(waiting: WaitingQueue) -> str:
    order = ""
    while waiting:
        seen = waiting.peek_request()
        assert waiting.pop_request() is seen
        order += seen.request_id
    return order


def test_ranked_requests_go_by_rank() -> None:
    assert drained(queue(Ranks(a=3, b=1, c=2), *"abc")) == "bca"


def test_without_ranks_it_is_the_queue_of_vllm() -> None:
    waiting = queue(Ranks(), *"abcd")
    skipped = [waiting.pop_request(), waiting.pop_request()]
    waiting.prepend_requests(reversed(skipped))
    waiting.prepend_request(request("x"))
    waiting.remove_requests([skipped[1], request("elsewhere")])
    assert (len(waiting), drained(waiting)) == (4, "xacd")


def test_a_request_without_rank_goes_before_ranked_ones_that_came_later() -> None:
    # The best of the ranked came before x and after y.
    assert drained(queue(Ranks(a=2, b=1, c=0), *"abxcy")) == "xcbay"


def test_a_preempted_request_without_rank_goes_first() -> None:
    waiting = queue(Ranks(a=0), "a")
    preempted = request("x", 9.0)
    preempted.num_preemptions = 1
    waiting.prepend_request(preempted)
    assert drained(waiting) == "xa"


def test_holding_back_shows_only_requests_without_rank_until_the_step_ends() -> None:
    waiting = queue(Ranks(a=1, b=2), *"abx")
    first = waiting.peek_request()
    waiting.hold_ranked()
    assert waiting.pop_request() is first
    assert drained(waiting) == "x"
    waiting.prepend_requests([first])
    assert not waiting
    assert len(waiting) == 2
    waiting.end_step()
    assert drained(waiting) == "ab"


def test_a_changed_rank_counts_when_told() -> None:
    ranks = Ranks(a=1, b=2, c=3)
    waiting = queue(ranks, *"abc")
    ranks.ranks["c"] = 0
    waiting.rank_again(["c", "unknown"])
    assert [one.request_id for one in waiting] == ["c", "a", "b"]
    assert drained(waiting) == "cab"


def test_refreshing_reaches_every_rank_in_turns() -> None:
    names = [f"r{number}" for number in range(5 * MAX_REFRESHED_PER_STEP)]
    ranks = Ranks(**{name: float(number) for number, name in enumerate(names)})
    waiting = queue(ranks, *names)
    ranks.ranks = {name: -rank for name, rank in ranks.ranks.items()}
    for _ in range(5):
        asked_before = ranks.num_asked
        waiting.refresh()
        assert ranks.num_asked - asked_before <= MAX_REFRESHED_PER_STEP + 2 * MAX_REFRESHED_HEADS
    assert [one.request_id for one in waiting] == names[::-1]


def test_the_head_is_refreshed_at_once() -> None:
    ranks = Ranks(a=1, b=2, c=3)
    waiting = queue(ranks, *"abc")
    ranks.ranks |= {"a": 5, "b": 4}
    waiting.refresh()
    assert drained(waiting) == "cba"


@pytest.mark.parametrize("num_rounds", [1, 50])
def test_requests_removed_and_added_again_are_there_once(num_rounds: int) -> None:
    waiting = queue(Ranks(a=1, b=2), *"ab")
    for _ in range(num_rounds):
        one = waiting.pop_request()
        waiting.prepend_request(one)
        waiting.remove_request(one)
        waiting.add_request(one)
    assert (len(waiting), drained(waiting)) == (2, "ab")
