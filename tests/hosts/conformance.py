"""The contract between a host and the scheduler core, as a checked core and a suite of scripted loads.

A host reports events in order of time, and each event only when it is true. It performs every action: a Submit ends in
one RequestFinished, RequestFailed or RequestCancelled; a WakeAt in a TimerFired not before its time; a Load in a
ReplicaAdded or LoadFailed; an Unload in a ReplicaRemoved, when nothing runs there. Calls that arrive at one moment are
told together, all but the last with `more_follow`. After a GiveUp, and after its end, nothing is told of a request.
A new host subclasses `HostConformance`, as test_conformance.py does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from sundog.sched.catalog import FCFS, LIVE, PREFIX_GROUPED
from sundog.sched.core import SchedulerCore
from sundog.sched.events import (
    Action,
    Event,
    GiveUp,
    ReplicaAdded,
    ReplicaRemoved,
    RequestArrived,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    Submit,
    TimerFired,
    Unload,
    WakeAt,
)
from sundog.sched.facts import CallFacts
from sundog.sched.policy import PolicySet
from tests.sched.sets import SETS


class CheckedCore(SchedulerCore):
    """A core that holds its host to the contract."""

    def __init__(self, policies: PolicySet) -> None:
        super().__init__(policies)
        self.events: list[Event] = []
        self.wakes_s: list[float] = []
        self._now_s = 0.0
        self._open: set[str] = set()
        self._running: dict[str, str] = {}
        self._unloading: set[str] = set()

    def handle(self, event: Event) -> list[Action]:
        assert event.time_s >= self._now_s, f"time runs backwards: {event}"
        self._now_s = event.time_s
        self._hold_to_contract(event)
        self.events.append(event)
        actions = super().handle(event)
        self.check()
        for action in actions:
            self._expect(action)
        return actions

    def _hold_to_contract(self, event: Event) -> None:
        match event:
            case RequestArrived():
                assert event.request_id not in self._open, f"{event.request_id} is there"
                self._open.add(event.request_id)
            case RequestFinished() | RequestFailed():
                assert self._running.pop(event.request_id, None) is not None, f"{event.request_id} does not run"
                if isinstance(event, RequestFinished):
                    self._open.remove(event.request_id)
            case RequestCancelled():
                self._running.pop(event.request_id, None)
                self._open.remove(event.request_id)
            case TimerFired():
                assert any(wake_s <= event.time_s for wake_s in self.wakes_s), f"nobody asked for {event}"
                self.wakes_s = [wake_s for wake_s in self.wakes_s if wake_s > event.time_s]
            case ReplicaRemoved():
                assert event.replica_id not in self._running.values(), f"something runs at {event.replica_id}"
                self._unloading.discard(event.replica_id)

    def _expect(self, action: Action) -> None:
        match action:
            case Submit():
                self._running[action.request_id] = action.replica_id
            case GiveUp():
                self._open.remove(action.request_id)
            case WakeAt():
                self.wakes_s.append(action.time_s)
            case Unload():
                self._unloading.add(action.replica_id)

    def check_end(self) -> None:
        """Assert that everything that was asked for has been done."""
        assert (self._open, self._running, self._unloading, self.wakes_s) == (set(), {}, set(), [])
        assert self.num_unfinished == 0


@dataclass(frozen=True)
class Scripted:
    """A request for the pool `p`. `attempts`: seconds that each takes, and how it ends; the last one goes on for ever.
    `leaves_s`: when nobody waits for it any more. `program`: the one that it is a call of, not the last."""

    name: str
    at_s: float
    attempts: tuple[tuple[float, str], ...] = ((1.0, "finished"),)
    max_attempts: int = 3
    leaves_s: float | None = None
    program: str = ""
    num_tokens: int = 0

    def attempt(self, number: int) -> tuple[float, str]:
        """Attempt `number`, from 1."""
        return self.attempts[min(number, len(self.attempts)) - 1]

    def arrived(self) -> RequestArrived:
        arrived = RequestArrived(self.at_s, self.name, "p", num_prompt_tokens=self.num_tokens)
        arrived.max_attempts, arrived.max_retry_wait_s = self.max_attempts, 60.0
        arrived.workflow_id, arrived.facts = self.program, CallFacts(is_last_turn=not self.program)
        return arrived


@dataclass(frozen=True)
class Replica:
    """One of the pool `p`, there from `from_s`, which drains from `until_s` on."""

    name: str
    num_slots: int
    from_s: float = 0.0
    until_s: float | None = None
    max_tokens: int | None = None

    def added(self) -> ReplicaAdded:
        return ReplicaAdded(self.from_s, self.name, "p", self.num_slots, self.max_tokens, 100)


FAILS, FINE = (1.0, "retryable"), (1.0, "finished")
ONE = (Replica("a", 1),)
LOADS: dict[str, tuple[Sequence[Replica], Sequence[Scripted], Mapping[str, str]]] = {
    "one after another": (
        ONE,
        [Scripted(name, 0.0) for name in "xyz"],
        {"x": "finished", "y": "finished", "z": "finished"},
    ),
    "a retry": (ONE, [Scripted("x", 0.0, (FAILS, FINE)), Scripted("y", 0.5)], {"x": "finished", "y": "finished"}),
    "no attempt is left": (ONE, [Scripted("x", 0.0, (FAILS,), max_attempts=2)], {"x": "failed"}),
    "not again": (ONE, [Scripted("x", 0.0, ((1.0, "final"),))], {"x": "failed"}),
    "nobody waits while it runs": (ONE, [Scripted("x", 0.0, ((9.0, "finished"),), leaves_s=2.5)], {"x": "cancelled"}),
    "nobody waits while it waits": (
        ONE,
        [Scripted("x", 0.0, ((9.0, "finished"),)), Scripted("y", 1.0, leaves_s=2.5)],
        {"x": "finished", "y": "cancelled"},
    ),
    "nobody waits for the next attempt": (
        ONE,
        [Scripted("x", 0.0, ((1.0, "retryable"), FINE), leaves_s=1.25), Scripted("y", 9.0)],
        {"x": "cancelled", "y": "finished"},
    ),
    "replicas come and go": (
        (Replica("a", 1, until_s=1.5), Replica("b", 2, from_s=3.25)),
        [Scripted(name, index / 4) for index, name in enumerate("uvwxyz")],
        dict.fromkeys("uvwxyz", "finished"),
    ),
}


class HostConformance(ABC):
    """Inherited by the tests of each host."""

    @abstractmethod
    def drive(self, core: CheckedCore, replicas: Sequence[Replica], load: Sequence[Scripted]) -> dict[str, str]:
        """Run the load to its end. Returns how each request ended: `finished`, `cancelled`, or why it was given up."""

    @pytest.mark.parametrize("policies", [FCFS, PREFIX_GROUPED], ids=lambda policies: policies.name)
    @pytest.mark.parametrize("name", LOADS)
    def test_the_contract_is_kept(self, name: str, policies: PolicySet) -> None:
        replicas, load, expected = LOADS[name]
        core = CheckedCore(policies)
        assert self.drive(core, replicas, load) == expected
        core.check_end()

    def test_calls_of_one_moment_are_told_together(self) -> None:
        core = CheckedCore(FCFS)
        self.drive(core, ONE, [Scripted(name, 1.0) for name in "xyz"])
        more_follow = [event.more_follow for event in core.events if isinstance(event, RequestArrived)]
        assert more_follow == [True, True, False]

    @pytest.mark.parametrize(("num_others", "expected_s"), [(30, 31.0), (60, 122.0)])
    def test_what_waits_aside_is_asked_for_again_though_nothing_happens(
        self, num_others: int, expected_s: float
    ) -> None:
        """While one call runs, a program waits beside the context of another: until it weighs half, or, where it needs
        more than that, until it has waited for as long as it may."""
        core = CheckedCore(LIVE)
        load = [
            Scripted("other", 0.0, program="away", num_tokens=60),
            Scripted("long", 0.5, ((600.0, "finished"),), num_tokens=10),
            Scripted("waits", 2.0, program="new", num_tokens=num_others),
        ]
        ended = self.drive(core, (Replica("a", 4, max_tokens=70),), load)
        assert ended == dict.fromkeys(("other", "long", "waits"), "finished")
        (end_s,) = (one.time_s for one in core.events if isinstance(one, RequestFinished) and one.request_id == "waits")
        assert end_s == pytest.approx(expected_s + 1.0)
        core.check_end()

    @pytest.mark.parametrize("policies", SETS, ids=lambda policies: policies.name)
    def test_every_policy_set_ends_every_request(self, policies: PolicySet) -> None:
        core = CheckedCore(policies)
        load = [
            Scripted(f"r{number}", number / 8, (FAILS, FINE) if number % 3 == 0 else (FINE,)) for number in range(30)
        ]
        ended = self.drive(core, (Replica("a", 2), Replica("b", 3, 1.0, 4.5)), load)
        assert ended == {one.name: "finished" for one in load}
        core.check_end()
