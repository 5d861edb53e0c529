"""Workers in the core: engines come and go, the books checked after every event."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.sched.catalog import FCFS, PREFIX_GROUPED
from sundog.sched.core import SchedulerCore
from sundog.sched.events import (
    Action,
    Event,
    GiveUp,
    Load,
    LoadFailed,
    PoolOpened,
    ReplicaAdded,
    ReplicaRemoved,
    RequestArrived,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    StepDrained,
    StepsOrdered,
    Submit,
    TimerFired,
    Unload,
    WakeAt,
    WorkerAdded,
    WorkerPlanned,
)
from sundog.sched.facts import CallFacts
from sundog.sched.policy import PolicySet
from tests.sched.sets import SETS

LOAD_S = 10.0


@dataclass
class Driven:
    """A core and what it has asked for; loads and unloads are done when told."""

    policies: PolicySet = PREFIX_GROUPED
    pools: str = "ab"
    num_workers: int = 1
    max_resident: int = 1
    time_s: float = 0.0
    loading: list[Load] = field(default_factory=list)
    unloading: list[Unload] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    wakes: list[float] = field(default_factory=list)
    told: list[Action] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.core = SchedulerCore(self.policies)
        for number in range(self.num_workers):
            expected = (LOAD_S,) * len(self.pools), (1.0,) * len(self.pools)
            self.tell(WorkerAdded(0.0, f"w-{number}", self.max_resident, tuple(self.pools), *expected))

    def tell(self, event: Event) -> list[Action]:
        actions = self.core.handle(event)
        self.core.check()
        self.told += actions
        for action in actions:
            match action:
                case Load():
                    self.loading.append(action)
                case Unload():
                    self.unloading.append(action)
                case Submit():
                    self.running.append(action.request_id)
                case GiveUp():
                    self.given_up.append(action.request_id)
                case WakeAt():
                    self.wakes.append(action.time_s)
        return actions

    def arrive(self, request_id: str, pool: str, step: str = "", max_attempts: int = 1) -> list[Action]:
        return self.tell(
            RequestArrived(
                self.time_s, request_id, pool, max_attempts=max_attempts, facts=CallFacts("f", step or f"step_{pool}")
            )
        )

    def finish(self, request_id: str) -> list[Action]:
        self.running.remove(request_id)
        return self.tell(RequestFinished(self.time_s, request_id))

    def loaded(self) -> list[Action]:
        load = self.loading.pop(0)
        replica_id = f"{load.pool}/{load.worker_id}"
        return self.tell(ReplicaAdded(self.time_s, replica_id, load.pool, 2, worker_id=load.worker_id))

    def unloaded(self) -> list[Action]:
        return self.tell(ReplicaRemoved(self.time_s, self.unloading.pop(0).replica_id))

    def plan(self, pools: str, worker_id: str = "w-0") -> list[Action]:
        steps = tuple(f"step_{pool}" for pool in pools)
        return self.tell(WorkerPlanned(self.time_s, worker_id, "f", steps, tuple(pools)))


def test_a_call_brings_its_engine_and_starts_when_it_is_there() -> None:
    core = Driven()
    assert core.arrive("r0", "b") == [Load("w-0", "b")]
    assert core.loaded() == [Submit("r0", "b/w-0", 1)]


def test_the_plan_preloads_and_a_drained_step_hands_over() -> None:
    core = Driven()
    assert core.plan("ab") == [Load("w-0", "a")]
    core.loaded()
    core.arrive("r0", "a")
    assert core.finish("r0") == []
    assert core.tell(StepDrained(1.0, "f", "step_a")) == [Unload("a/w-0")], "before any call for b"
    assert core.unloaded() == [Load("w-0", "b")]
    core.loaded()
    assert core.arrive("r1", "b") == [Submit("r1", "b/w-0", 1)]


def test_a_step_that_comes_again_has_its_turn_after_the_others() -> None:
    core = Driven()
    core.plan("ab")
    core.loaded()
    core.arrive("r0", "a")
    core.finish("r0")
    assert core.tell(StepDrained(1.0, "f", "step_a", comes_again=True)) == [Unload("a/w-0")]
    core.unloaded()
    core.loaded()
    core.arrive("r1", "b")
    core.finish("r1")
    assert core.tell(StepDrained(2.0, "f", "step_b", comes_again=True)) == [Unload("b/w-0")]
    assert core.unloaded() == [Load("w-0", "a")], "before any call for a comes again"
    core.loaded()
    core.tell(StepDrained(3.0, "f", "step_a"))
    core.unloaded()
    core.loaded()
    assert core.tell(StepDrained(4.0, "f", "step_b")) == [], "nothing comes again"


def test_a_drained_step_waits_for_what_runs() -> None:
    core = Driven()
    core.plan("ab")
    core.loaded()
    core.arrive("r0", "a")
    assert core.tell(StepDrained(1.0, "f", "step_a")) == []
    assert core.finish("r0") == [Unload("a/w-0")]


def test_a_trickle_is_drained_and_new_calls_wait() -> None:
    core = Driven()
    core.plan("ab")
    core.loaded()
    core.arrive("r0", "a")
    for number in range(1, 30):
        core.arrive(f"r{number}", "b")
    core.time_s = 2 * LOAD_S
    assert core.tell(TimerFired(core.time_s)) == []
    assert core.arrive("late", "a") == [], "a leaves: it takes no further call"
    assert core.finish("r0") == [Unload("a/w-0")]
    assert core.unloaded() == [Load("w-0", "b")]
    assert [action.request_id for action in core.loaded() if isinstance(action, Submit)] == ["r1", "r2"]


def test_load_times_are_measured() -> None:
    """After loads of 1 s, 5 waiting calls of 1 s are worth two switches; they were not at the expected 10 s."""

    def switches_for(load_took_s: float) -> bool:
        core = Driven()
        core.arrive("r0", "b")
        core.time_s = load_took_s
        core.loaded()
        core.finish("r0")
        core.tell(StepDrained(core.time_s, "f", "step_b"))
        core.arrive("r1", "a")
        core.unloaded()
        core.time_s += load_took_s
        core.loaded()
        for number in range(2, 7):
            core.arrive(f"r{number}", "b", "again")
        core.finish("r1")
        core.tell(PoolOpened(core.time_s, "tool"))
        core.arrive("busy", "tool")
        core.time_s += 0.1
        core.tell(ReplicaAdded(core.time_s, "tool", "tool", 1))
        return core.unloading != []

    assert switches_for(1.0)
    assert not switches_for(LOAD_S)


def test_a_failed_load_is_repeated_then_given_up() -> None:
    core = Driven()
    core.arrive("r0", "a")
    for attempt in range(3):
        load = core.loading.pop()
        core.tell(LoadFailed(core.time_s, load.worker_id, load.pool, retryable=True))
        assert core.given_up == (["r0"] if attempt == 2 else [])
        core.time_s += 100.0
        core.tell(TimerFired(core.time_s))
    assert core.arrive("r1", "a") == [GiveUp("r1", 0, "unloadable")], "nobody can have it any more"
    assert core.arrive("r2", "b") == [Load("w-0", "b")]


def test_a_load_that_cannot_work_moves_to_another_worker() -> None:
    core = Driven(num_workers=2)
    core.arrive("r0", "a")
    core.loading.pop()
    assert core.tell(LoadFailed(1.0, "w-0", "a", retryable=False)) == [Load("w-1", "a")]


@pytest.mark.parametrize(("policies", "num_loads"), [(PREFIX_GROUPED, 2), (FCFS, 10)])
def test_calls_for_two_engines_in_turns(policies: PolicySet, num_loads: int) -> None:
    """Twenty calls, each second one for the other engine, two at a time: the lock needs one load for each engine, first
    come first served one for every two calls."""
    core = Driven(policies)
    for row in range(20):
        core.time_s += 0.01
        core.arrive(f"r{row}", "ab"[row // 2 % 2])
    while core.core.num_unfinished:
        core.time_s += 1.0
        if core.unloading:
            core.unloaded()
        elif core.loading:
            core.loaded()
        elif core.running:
            core.finish(core.running[0])
        else:
            core.tell(TimerFired(core.time_s))
    assert sum(isinstance(action, Load) for action in core.told) == num_loads


Happenings = list[tuple[int, int]]


@given(
    policies=st.sampled_from(SETS),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    plans=st.lists(st.text("abc", max_size=4), min_size=3, max_size=3),
    pools=st.text("abc", max_size=14),
    happenings=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9)), max_size=80),
)
def test_every_call_ends_whatever_happens(
    policies: PolicySet, shape: tuple[int, int], plans: list[str], pools: str, happenings: Happenings
) -> None:
    """Loads fail, requests fail or are cancelled, plans change, steps drain too early: the books hold, the same story
    gives the same actions, and in the end every call has had its engine."""
    first, second = (_story(Driven(policies, "abc", *shape), plans, pools, happenings) for _ in range(2))
    assert first == second


def _story(core: Driven, plans: list[str], pools: str, happenings: Happenings) -> list[Action]:
    for number in range(core.num_workers):
        core.plan(plans[number], f"w-{number}")
    for index, pool in enumerate(pools):
        core.arrive(f"r{index}", pool, max_attempts=2)
        if index < len(happenings):
            _happen(core, *happenings[index])
    for happening in happenings[len(pools) :]:
        _happen(core, *happening)
    num_idle = 0
    while core.core.num_unfinished:
        core.time_s += 100.0
        core.tell(TimerFired(core.time_s))
        is_moving = core.loading or core.unloading or core.running
        num_idle = 0 if is_moving else num_idle + 1
        assert num_idle < 5, "calls wait and nothing moves"
        while core.unloading:
            core.unloaded()
        while core.loading:
            core.loaded()
        for request_id in list(core.running):
            core.finish(request_id)
    return core.told


def _happen(core: Driven, pick: int, what: int) -> None:
    core.time_s += 1.0
    if what <= 1 and core.loading:
        core.loaded()
    elif what == 2 and core.loading:
        load = core.loading.pop(0)
        # Every engine can be had on the first worker in the end.
        core.tell(LoadFailed(core.time_s, load.worker_id, load.pool, retryable=load.worker_id != "w-0" or pick % 2 > 1))
    elif what == 3 and core.unloading:
        core.unloaded()
    elif what == 4:
        core.tell(StepDrained(core.time_s, "f", f"step_{'abc'[pick % 3]}", comes_again=pick % 2 == 0))
    elif what == 5:
        core.plan("abcab"[pick % 3 : pick % 5 + 1], f"w-{pick % core.num_workers}")
        steps = ("step_a", "step_b", "step_c")[: pick % 4]
        core.tell(StepsOrdered(core.time_s, "f", steps, tuple(range(len(steps)))))
    elif what == 6:
        core.tell(TimerFired(core.time_s))
    elif core.running:
        request_id = core.running[pick % len(core.running)]
        if what == 7:
            core.running.remove(request_id)
            core.tell(RequestFailed(core.time_s, request_id, retryable=pick % 2 == 0))
        elif what == 8:
            core.running.remove(request_id)
            core.tell(RequestCancelled(core.time_s, request_id))
        else:
            core.finish(request_id)
