"""Chains of prefixes (system text, document, question): who warms, who waits, and that no slot idles for nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import product

import pytest

from sundog.sched.catalog import PREFIX_GROUPED
from sundog.sched.core import SchedulerCore
from sundog.sched.events import Event, PrefillEnded, ReplicaAdded, RequestArrived, RequestFinished, Submit

SYSTEM = (900, 901)
SYSTEM_WARMER = "0/0"
NUM_DOCUMENTS, NUM_QUESTIONS, NUM_SLOTS = 17, 6, 32
# Blocks: room for everything, and for a prompt in each slot.
LARGE, SMALL = 10_000, 7 * NUM_SLOTS


def document_key(document: int) -> tuple[int, ...]:
    """Blocks of a document under the system text; hashes in no order."""
    return (*SYSTEM, *((document * 7919 + block * 104729) % 100_003 for block in range(4)))


def call(document: int, question: int) -> RequestArrived:
    key = (*document_key(document), 200_000 + document * 10 + question)
    return RequestArrived(0.0, f"{document}/{question}", "p", document * 10 + question, 0, 100, 10, key)


class Chained:
    """A core under events, and where each request is."""

    def __init__(self, num_blocks: int) -> None:
        self.core = SchedulerCore(PREFIX_GROUPED)
        self.running: list[str] = []
        self.tell(ReplicaAdded(0.0, "p/0", "p", NUM_SLOTS, None, num_blocks))

    def tell(self, event: Event) -> list[str]:
        """The requests that start."""
        actions = self.core.handle(event)
        self.core.check()
        started = [action.request_id for action in actions if isinstance(action, Submit)]
        self.running += started
        return started

    def warm(self, request_id: str) -> list[str]:
        return self.tell(PrefillEnded(1.0, request_id))

    def finish(self, request_id: str) -> list[str]:
        self.running.remove(request_id)
        return self.tell(RequestFinished(2.0, request_id))


def document_of(request_id: str) -> str:
    return request_id.partition("/")[0]


def documents_of(requests: list[str]) -> Counter[str]:
    return Counter(map(document_of, requests))


Order = Callable[[tuple[int, int]], tuple[int, ...]]


def arrive(core: Chained, order: Order) -> None:
    for document, question in sorted(product(range(NUM_DOCUMENTS), range(NUM_QUESTIONS)), key=order):
        core.tell(call(document, question))


ORDERS = pytest.mark.parametrize(
    "order", [lambda call: call, lambda call: call[::-1]], ids=["by document", "by question"]
)


@ORDERS
def test_documents_are_warmed_side_by_side_once_the_system_text_is_warm(
    order: Order,
) -> None:
    core = Chained(LARGE)
    arrive(core, order)
    assert core.running == ["0/0"], "one warms the system text"
    expected = {"0": NUM_QUESTIONS - 1} | {str(number): 1 for number in range(1, NUM_DOCUMENTS)}
    assert documents_of(core.warm("0/0")) == expected
    # Each document that is warm lets its own questions go, as far as there are slots, and no others.
    num_free = NUM_SLOTS - len(core.running)
    for request_id in [one for one in core.running if not one.startswith("0/")]:
        num_released = min(num_free, NUM_QUESTIONS - 1)
        assert documents_of(core.warm(request_id)) == ({document_of(request_id): num_released} if num_released else {})
        num_free -= num_released
    assert len(core.running) == NUM_SLOTS


def test_no_slot_idles_while_something_cold_waits() -> None:
    """A slot is free only where all that waits is parked behind the prefill of its own document."""
    core = Chained(LARGE)
    arrive(core, lambda call: call)
    is_warm: set[str] = set()
    num_left = NUM_DOCUMENTS * NUM_QUESTIONS - 1
    while core.running:
        for request_id in list(core.running):
            if request_id in is_warm:
                num_left -= len(core.finish(request_id))
            else:
                is_warm.add(request_id)
                num_left -= len(core.warm(request_id))
            cold = {document_of(one) for one in core.running if one not in is_warm}
            if len(core.running) < NUM_SLOTS and num_left and SYSTEM_WARMER in is_warm:
                assert num_left <= len(cold) * (NUM_QUESTIONS - 1)
    assert num_left == 0


@ORDERS
def test_a_small_cache_finishes_what_it_has_begun(order: Order) -> None:
    core = Chained(SMALL)
    arrive(core, order)
    # 6 calls of the first document; each of 4 others has a slot and keeps 5; the last gets what is left over.
    started = documents_of(core.warm("0/0"))
    assert started.pop("0") == NUM_QUESTIONS - 1
    assert list(started.values()) == [1] * 5
    assert len(core.running) == NUM_QUESTIONS + 5
    for request_id in core.running[-5:-1]:
        assert documents_of(core.warm(request_id)) == {document_of(request_id): NUM_QUESTIONS - 1}
    num_running = len(core.running)
    assert num_running == 5 * NUM_QUESTIONS + 1
    (begun,) = documents_of(core.warm(core.running[NUM_QUESTIONS + 4])).items()
    assert begun[1] == NUM_SLOTS - num_running


def test_nothing_is_kept_back_for_ever() -> None:
    """Every call runs, whatever is small."""
    core = Chained(SMALL)
    arrive(core, lambda call: call[::-1])
    num_ended = 0
    is_warm: set[str] = set()
    while core.running:
        request_id = core.running[num_ended % len(core.running)]
        if request_id in is_warm:
            core.finish(request_id)
            num_ended += 1
        else:
            is_warm.add(request_id)
            core.warm(request_id)
    assert num_ended == NUM_DOCUMENTS * NUM_QUESTIONS
