"""Time slices: the policy as a table, and the core with two engines on one device."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.sched.catalog import FCFS, PREFIX_GROUPED
from sundog.sched.core import SchedulerCore
from sundog.sched.events import (
    Action,
    Event,
    ReplicaAdded,
    ReplicaDown,
    RequestArrived,
    RequestCancelled,
    RequestFinished,
    Submit,
)
from sundog.sched.policies.time_slice import widest_steps
from sundog.sched.policy import PolicySet
from sundog.sched.views import DeviceView, RequestView, SchedView


@pytest.mark.parametrize(
    ("why", "sliced", "running", "waiting", "answer"),
    [
        ("at first: where most wait", None, (0, 0, 0), (1, 3, 2), "b"),
        ("nobody waits anywhere", "b", (0, 1, 0), (0, 0, 0), "b"),
        ("it runs as many as wait elsewhere", "a", (3, 0, 0), (0, 3, 0), "a"),
        ("it runs half as many as wait elsewhere", "a", (2, 0, 0), (0, 4, 0), "a"),
        ("it runs fewer than half of those", "a", (2, 0, 0), (0, 5, 0), "b"),
        ("what waits for it counts too", "a", (2, 0, 0), (1, 5, 0), "a"),
        ("of two others, the one for which more wait", "a", (1, 0, 0), (0, 3, 4), "c"),
        ("it has come to its end", "a", (0, 0, 0), (0, 1, 0), "b"),
        ("others that run and do not wait change nothing", "a", (0, 9, 0), (1, 0, 0), "a"),
    ],
)
def test_widest_steps(
    why: str, sliced: str | None, running: tuple[int, ...], waiting: tuple[int, ...], answer: str
) -> None:
    device = DeviceView(dict(zip("abc", running, strict=True)), dict(zip("abc", waiting, strict=True)), sliced)
    assert widest_steps(device, SchedView()) == answer, why


class Driven:
    """Engines a and b with eight slots each; the books are checked after every event."""

    def __init__(self, policies: PolicySet = PREFIX_GROUPED, devices: tuple[str | None, str | None] = ("d", "d")):
        self.core = SchedulerCore(policies)
        for pool, device in zip("ab", devices, strict=True):
            self.tell(ReplicaAdded(0.0, f"{pool}/0", pool, 8, shared_device=device))

    def tell(self, event: Event) -> list[str]:
        actions: list[Action] = self.core.handle(event)
        self.core.check()
        return [action.request_id for action in actions if isinstance(action, Submit)]

    def arrive(self, *names: str) -> list[str]:
        """All at once; a name begins with its pool."""
        started: list[str] = []
        for number, name in enumerate(names):
            event = RequestArrived(0.0, name, name[0], workflow_order=number, more_follow=name != names[-1])
            started += self.tell(event)
        return started

    def finish(self, *names: str) -> list[str]:
        return [one for name in names for one in self.tell(RequestFinished(1.0, name))]


def test_engines_on_one_device_take_turns() -> None:
    core = Driven()
    assert core.arrive("a0", "a1", "a2", "b0", "b1", "b2") == ["a0", "a1", "a2"]
    assert core.finish("a0") == []
    # A request that comes while its engine has the slice joins.
    assert core.arrive("a3") == ["a3"]
    assert core.finish("a1", "a2") == ["b0", "b1", "b2"]
    # The requests that still run go on beside them, but nothing more starts there.
    assert core.arrive("a4") == []
    assert core.finish("a3", "b0", "b1") == []
    assert core.finish("b2") == ["a4"]


@pytest.mark.parametrize(
    ("policies", "devices"),
    [(FCFS, ("d", "d")), (PREFIX_GROUPED, (None, None)), (PREFIX_GROUPED, ("d", "e")), (PREFIX_GROUPED, ("d", None))],
)
def test_who_shares_nothing_waits_for_nobody(policies: PolicySet, devices: tuple[str | None, str | None]) -> None:
    assert len(Driven(policies, devices).arrive("a0", "a1", "b0", "b1")) == 4


@pytest.mark.parametrize(
    ("devices", "num_blocks", "num_devices"),
    [(("d", "d"), 9, 1), ((None, None), 9, 2), (("d", "e"), 9, 2), (("d", None), 9, 2), ((None, None), 0, 0)],
)
def test_policies_are_told_how_many_devices_compute(
    devices: tuple[str | None, str | None], num_blocks: int, num_devices: int
) -> None:
    """A tool has no prefix cache, and is none of them."""
    told: list[int] = []

    def rank(request: RequestView, sched: SchedView) -> tuple[float, ...]:
        told.append(sched.num_devices)
        return ()

    core = SchedulerCore(replace(PREFIX_GROUPED, rank=rank))
    for pool, device in zip("ab", devices, strict=True):
        core.handle(ReplicaAdded(0.0, f"{pool}/0", pool, 8, num_prefix_blocks=num_blocks, shared_device=device))
    core.handle(ReplicaAdded(0.0, "tool", "tool", 8))
    core.handle(RequestArrived(0.0, "a0", "a"))
    assert told == [num_devices]


def test_a_cancelled_request_gives_its_turn_away() -> None:
    core = Driven()
    assert core.arrive("a0", "b0") == ["a0"]
    assert core.tell(RequestCancelled(1.0, "a0")) == ["b0"]


def test_an_engine_that_is_down_does_not_keep_the_slice() -> None:
    core = Driven()
    assert core.arrive(*(f"a{number}" for number in range(9)), "b0") == [f"a{number}" for number in range(8)]
    assert core.tell(ReplicaDown(1.0, "a/0")) == []
    # The request that runs there has not failed yet; then those that wait there can start nowhere.
    assert core.finish(*(f"a{number}" for number in range(8))) == ["b0"]


def test_a_policy_set_of_ones_own_can_give_the_slices() -> None:
    last = replace(PREFIX_GROUPED, time_slice=lambda device, sched: max(device.num_waiting))
    core = Driven(last)
    assert core.arrive("b0", "b1") == ["b0", "b1"]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 99)), max_size=80))
def test_a_shared_device_never_idles_while_something_waits(story: list[tuple[str, bool, int]]) -> None:
    """The check of the books says so after every event; in the end all have run."""
    core, running, num_started = Driven(), list[str](), 0
    for number, (pool, ends, pick) in enumerate(story):
        begun = core.arrive(f"{pool}{number}")
        if running and ends:
            begun += core.finish(running.pop(pick % len(running)))
        running += begun
        num_started += len(begun)
    while running:
        begun = core.finish(running.pop())
        running += begun
        num_started += len(begun)
    assert num_started == len(story)
