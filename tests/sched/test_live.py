"""The policy set for requests as they come: who has a turn, where programs go, and what is forgotten."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sundog.sched.catalog import LIVE
from sundog.sched.core import SchedulerCore
from sundog.sched.events import Action, Event, ReplicaAdded, RequestArrived, RequestCancelled, RequestFinished, Submit
from sundog.sched.facts import CallFacts, Tier
from sundog.sched.policies.routing import session_affinity
from sundog.sched.policies.tiers import STARTS_ABOVE, has_its_turn
from sundog.sched.views import ReplicaView, RequestView, SchedView, WorkflowView

TURN = CallFacts(is_last_turn=False)


class LiveCore:
    """A core of the set `live`, with replicas of the pool `p`; its books are checked after every event."""

    def __init__(self, *num_slots: int, max_tokens: int | None = None) -> None:
        self.core = SchedulerCore(LIVE)
        self.workflows = self.core._view.workflows
        self.replicas = self.core._replicas
        for number, slots in enumerate(num_slots):
            self.tell(ReplicaAdded(0.0, f"p/{number}", "p", slots, max_tokens, 1000))

    def tell(self, event: Event) -> list[Action]:
        actions = self.core.handle(event)
        self.core.check()
        return actions

    def ask(self, name: str, time_s: float, program: str = "", facts: CallFacts = TURN, **more: int) -> list[str]:
        """A request comes; the names of those that start."""
        arrived = RequestArrived(time_s, name, "p", workflow_id=program, facts=facts)
        for field, value in more.items():
            setattr(arrived, field, value)
        return started(self.tell(arrived))

    def end(self, name: str, time_s: float, num_prompt_tokens: int = 0) -> list[str]:
        return started(self.tell(RequestFinished(time_s, name, num_prompt_tokens)))


def started(actions: list[Action]) -> list[str]:
    return [action.request_id for action in actions if isinstance(action, Submit)]


def places(actions: list[Action]) -> list[str]:
    return [action.replica_id for action in actions if isinstance(action, Submit)]


@pytest.mark.parametrize(
    ("tier", "waited_s", "num_starts", "expected"),
    [
        ("flex", 60.0, 9, True),
        ("flex", 59.0, 9, False),
        ("flex", 60.0, 8, False),
        ("batch", 3600.0, 9, True),
        ("batch", 3599.0, 9, False),
        ("default", 1e6, 1000, False),
        ("priority", 1e6, 1000, False),
    ],
)
def test_low_tiers_have_a_turn_after_nine_others(tier: Tier, waited_s: float, num_starts: int, expected: bool) -> None:
    request = RequestView("r", "p", arrival_time=5.0, facts=CallFacts(tier=tier))
    assert has_its_turn(request, SchedView(time_s=5.0 + waited_s, num_starts_above=num_starts)) is expected


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_a_flood_of_default_leaves_flex_every_tenth_start(num_replicas: int) -> None:
    """Two of `default` come whenever one ends, so that without a share no `flex` would ever start; those that wait at a
    replica are ranked again too."""
    core = LiveCore(*[1] * num_replicas)
    running = [f"first {number}" for number in range(num_replicas)]
    for name in running:
        core.ask(name, 0.0)
    for number in range(30):
        core.ask(f"flex {number}", 1.0, facts=CallFacts(tier="flex"))
    order: list[str] = []
    for number in range(100):
        time_s = 100.0 + number
        core.ask(f"x{number}", time_s)
        core.ask(f"y{number}", time_s)
        begun = core.end(running.pop(0), time_s)
        running += begun
        order += begun
    flex = [place for place, name in enumerate(order) if name.startswith("flex")]
    assert len(order) == 100
    assert len(flex) in {9, 10}
    assert all(later - earlier == STARTS_ABOVE + 1 for earlier, later in pairwise(flex))


@pytest.mark.parametrize(("weight", "num_of_first"), [(1.0, 15), (2.0, 20), (5.0, 25)])
@pytest.mark.parametrize("num_waiting", [30, 120])
def test_tenants_that_wait_have_starts_by_their_weights(weight: float, num_of_first: int, num_waiting: int) -> None:
    core = LiveCore(1)
    core.ask("running", 0.0)
    for number in range(num_waiting):
        # The one of weight 1 comes first, and would have all starts by the order of arrival.
        core.ask(f"plain {number}", 1.0, facts=CallFacts(tenant="plain"), num_prompt_tokens=100)
    for number in range(num_waiting):
        core.ask(f"heavy {number}", 2.0, facts=CallFacts(tenant="heavy", weight=weight), num_prompt_tokens=100)
    order, running = [], ["running"]
    for number in range(30):
        running = core.end(running[0], 3.0 + number, num_prompt_tokens=100)
        order += running
    assert sum(name.startswith("heavy") for name in order) in (num_of_first, num_of_first + 1)


def test_one_that_waits_at_a_replica_has_its_turn_there() -> None:
    """It waits where its program ran, as that has hardly more to do than the other one."""
    core = LiveCore(4, 4)
    (home,) = places(core.tell(RequestArrived(0.0, "at home", "p", workflow_id="one", facts=TURN)))
    running = [name for number in range(6) for name in core.ask(f"first {number}", 0.0)]
    assert len(running) == 6
    core.ask("of flex", 1.0, "one", CallFacts(tier="flex", is_last_turn=False))
    assert core.replicas[home].num_waiting == 1
    core.ask("fills", 1.0)
    begun, at_home = list[str](), "at home"
    for number in range(30):
        time_s = 60.0 + number
        core.ask(f"x{number}", time_s, "one")
        core.ask(f"y{number}", time_s, "one")
        (at_home,) = core.end(at_home, time_s)
        begun.append(at_home)
    assert begun.index("of flex") == 1, "as the tenth, after a minute"


AWAY = WorkflowView("away", 0.0, last_end_s=100.0, replica_ids={"p": "p/1", "other": "p/0"})
RUNNING = WorkflowView("runs", 0.0, replica_ids={"p": "p/1"})


@pytest.mark.parametrize(
    ("program", "time_s", "expected"),
    [
        ("", 100.0, [0.0, 0.0]),
        ("new", 100.0, [0.0, 0.0]),
        ("runs", 1e6, [0.0, 1.0]),
        ("away", 100.0, [0.0, 1.0]),
        ("away", 400.0, [0.0, 0.5]),
        ("away", 1000.0, [0.0, 0.125]),
    ],
)
def test_session_affinity(program: str, time_s: float, expected: list[float]) -> None:
    sched = SchedView(time_s=time_s, workflows={one.workflow_id: one for one in (AWAY, RUNNING)})
    request = RequestView("r", "p", workflow_id=program)
    assert [session_affinity(request, ReplicaView(name, "p"), sched) for name in ("p/0", "p/1")] == expected


def test_a_program_goes_back_where_it_was_unless_that_has_much_more_to_do() -> None:
    core = LiveCore(4, 4)
    assert places(core.tell(RequestArrived(0.0, "a", "p", workflow_id="one", facts=TURN))) == ["p/0"]
    core.end("a", 1.0)
    # By the number of requests sent there, a new one would go to the other replica.
    assert places(core.tell(RequestArrived(2.0, "b", "p", workflow_id="one", facts=TURN))) == ["p/0"]
    core.end("b", 3.0)
    others = {name: places(core.tell(RequestArrived(4.0, name, "p"))) for name in "vwxy"}
    assert sorted(others.values()) == [["p/0"], ["p/0"], ["p/1"], ["p/1"]]
    for name, place in others.items():
        if place == ["p/1"]:
            core.end(name, 5.0)
    assert places(core.tell(RequestArrived(6.0, "c", "p", workflow_id="one", facts=TURN))) == ["p/1"]


def test_programs_that_have_ended_or_were_idle_for_an_hour_are_forgotten() -> None:
    core = LiveCore(8)
    for number in range(1000):
        time_s = number * 10.0
        core.ask(f"r{number}", time_s, f"w{number}")
        core.end(f"r{number}", time_s + 1.0)
        assert len(core.workflows) <= 362
    assert len(core.workflows) == 360
    core.ask("last", 10_000.0, "w999", CallFacts(is_last_turn=True))
    core.end("last", 10_001.0)
    assert "w999" not in core.workflows


def test_a_program_of_which_a_request_waits_is_not_forgotten() -> None:
    core = LiveCore(1)
    core.ask("long", 0.0, "runs")
    core.ask("waits", 1.0, "waits")
    core.ask("idle", 2.0, "idle")
    core.tell(RequestCancelled(3.0, "idle"))
    assert set(core.workflows) == {"runs", "waits", "idle"}, "who breaks a call off may go on"
    for number in range(4):
        core.ask(f"r{number}", 4000.0 + number)
    assert set(core.workflows) == {"runs", "waits"}
    core.end("long", 4010.0)
    for number in range(4, 8):
        core.ask(f"r{number}", 7600.0 + number)
    assert set(core.workflows) == {"runs", "waits"}, "it ended less than an hour ago, and the other one runs"
    core.ask("more", 7620.0)
    assert set(core.workflows) == {"waits"}


def test_a_row_stands_where_it_came_though_its_last_turn_on_another_engine_has_ended() -> None:
    """The plan tells of each engine which call is the last there; the row's next call is for another one."""
    core = LiveCore(1)
    assert core.ask("old/0", 0.0, "old", CallFacts(is_last_turn=True)) == ["old/0"]
    assert core.ask("young/0", 1.0, "young") == []
    assert core.end("old/0", 2.0) == ["young/0"]
    assert "old" not in core.workflows
    assert core.ask("young/1", 3.0, "young") == []
    assert core.ask("old/1", 4.0, "old") == []
    assert core.end("young/0", 5.0) == ["old/1"]


def test_a_row_that_waits_stands_where_it_came_when_its_last_turn_elsewhere_ends() -> None:
    core = LiveCore(2)
    core.ask("busy", 0.0)
    core.ask("old/0", 1.0, "old", CallFacts(is_last_turn=True))
    core.ask("young", 2.0, "young")
    core.ask("old/1", 3.0, "old")
    core.tell(RequestCancelled(4.0, "busy"))
    core.end("old/0", 5.0)
    assert core.core._view.program_arrival_s(RequestView("r", "p", 9.0, workflow_id="old")) == 1.0


def test_a_program_that_was_idle_for_an_hour_comes_anew() -> None:
    core = LiveCore(1)
    core.ask("old/0", 0.0, "old")
    core.end("old/0", 1.0)
    core.ask("other", 3700.0, "other")
    core.ask("old/1", 3701.0, "old")
    assert core.core._view.program_arrivals_s == {"other": 3700.0, "old": 3701.0}
