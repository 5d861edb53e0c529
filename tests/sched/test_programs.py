"""Programs that are admitted by their contexts, batch work beside live load, and what waits aside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.sched.books.programs.contexts import GONE_HALF_LIVES, HALF_LIFE_S, Contexts
from sundog.sched.events import (
    GiveUp,
    PoolClosed,
    ReplicaDown,
    ReplicaRemoved,
    ReplicaUp,
    RequestArrived,
    RequestCancelled,
    RequestFinished,
    TimerFired,
    WakeAt,
    WorkflowEnded,
)
from sundog.sched.facts import CallFacts, Tier
from sundog.sched.policies.programs import MAX_WAIT_S, contexts_fit
from sundog.sched.policies.tiers import beside_live
from sundog.sched.policy import Admitted, Deferred
from sundog.sched.views import ReplicaView, RequestView, SchedView, WorkflowView
from tests.sched.test_live import TURN, LiveCore, places, started

HERE = {"p": "p/0"}
SCHED = SchedView(
    time_s=100.0,
    workflows={
        "old": WorkflowView("old", 1.0, last_end_s=100.0, replica_ids=HERE),
        "middle": WorkflowView("middle", 2.0, last_end_s=100.0, replica_ids=HERE),
        "young": WorkflowView("young", 3.0, last_end_s=100.0, replica_ids=HERE),
        "paused": WorkflowView("paused", 0.0, last_end_s=100.0 - 4 * HALF_LIFE_S - 1.0, replica_ids=HERE),
        "next door": WorkflowView("next door", 0.0, last_end_s=100.0, replica_ids={"p": "p/1"}),
        "elsewhere": WorkflowView("elsewhere", 0.0, last_end_s=100.0, replica_ids={"q": "q/0"}),
    },
)


def replica(limit: int | None = 1000, num_running: int = 1, **contexts: int) -> ReplicaView:
    """A replica where 100 tokens run, and programs have contexts."""
    found = ReplicaView("p/0", "p", 8, limit, num_running)
    found.running.hold("running", (), 60, 40)
    for name, num_tokens in contexts.items():
        found.contexts.go_away(name, SCHED.workflows[name].arrival_s, num_tokens, 100.0)
    return found


@pytest.mark.parametrize(
    ("why", "program", "where", "waited_s", "expected"),
    [
        ("room for 200", "new", replica(old=300, middle=300, young=100), 0.0, True),
        ("one token too many", "new", replica(old=300, middle=300, young=101), 0.0, False),
        ("a turn beside those before its program", "young", replica(old=300, middle=400), 0.0, True),
        ("one token too many", "young", replica(old=300, middle=401), 0.0, False),
        ("later ones do not count", "middle", replica(old=700, young=900), 0.0, True),
        ("nor does its own", "middle", replica(old=700, middle=900), 0.0, True),
        ("the oldest beside what runs", "old", replica(middle=900, young=900), 0.0, True),
        ("away for long: as a new one", "paused", replica(old=701), 0.0, False),
        ("active in another pool: as a new one", "elsewhere", replica(old=701), 0.0, False),
        ("active at another replica: as a new one", "next door", replica(old=701), 0.0, False),
        ("nobody waits for more than two minutes", "new", replica(old=900), MAX_WAIT_S, True),
        ("but as long", "new", replica(old=900), MAX_WAIT_S - 0.1, False),
        ("on its own", "", replica(old=900), 0.0, True),
        ("nobody knows the memory", "new", replica(None, old=10**9), 0.0, True),
        ("an idle replica takes anything", "new", replica(num_running=0, old=900), 0.0, True),
    ],
)
def test_contexts_fit(why: str, program: str, where: ReplicaView, waited_s: float, expected: bool) -> None:
    request = RequestView("r", "p", 100.0 - waited_s, num_prompt_tokens=150, workflow_id=program)
    request.num_expected_output_tokens = 50
    assert (contexts_fit(request, where, SCHED) == Admitted()) is expected, why


@pytest.mark.parametrize(
    ("num_context_tokens", "num_own_tokens", "expected_s"),
    [
        (800, 500, 100.0 + HALF_LIFE_S),  # there is room for half of it
        (401, 500, 101.0),  # not at once again
        (800, 900, 220.0),  # there is room for none, however long it is away
        (800, 899, 220.0),  # for one token, after more than two minutes
    ],
)
def test_it_is_asked_for_again_when_contexts_weigh_less(
    num_context_tokens: int, num_own_tokens: int, expected_s: float
) -> None:
    request = RequestView("r", "p", 100.0, num_prompt_tokens=num_own_tokens, workflow_id="new")
    verdict = contexts_fit(request, replica(old=num_context_tokens), SCHED)
    assert isinstance(verdict, Deferred)
    assert verdict.until_s == pytest.approx(expected_s)


SECONDS = st.floats(0.0, 50.0)


@given(st.lists(st.tuples(st.sampled_from("abcd"), SECONDS, st.booleans()), max_size=20), SECONDS)
def test_contexts_weigh_half_after_each_half_life(moves: list[tuple[str, float, bool]], later_s: float) -> None:
    contexts, expected, time_s = Contexts(), dict[str, float | None](), 0.0
    for name, gap_s, comes_back in moves:
        time_s += gap_s
        if comes_back:
            contexts.come_back(name)
            expected |= {name: None} if name in expected else {}
        else:
            contexts.go_away(name, float(ord(name)), 64, time_s)
            expected[name] = time_s
    time_s += later_s
    weights = {
        name: 64.0 if since_s is None else 64.0 * 0.5 ** ((time_s - since_s) / HALF_LIFE_S)
        for name, since_s in expected.items()
    }
    assert contexts.num_tokens(time_s) == pytest.approx(sum(weights.values()), abs=1.0)
    before = sum(weight for name, weight in weights.items() if name < "c")
    assert contexts.num_tokens(time_s, float(ord("c"))) == pytest.approx(before, abs=1.0)
    besides = sum(weight for name, weight in weights.items() if name != "b")
    assert contexts.num_tokens(time_s, besides="b") == pytest.approx(besides, abs=1.0)


def test_contexts_that_weigh_nothing_are_forgotten() -> None:
    contexts = Contexts()
    contexts.go_away("waits", 0.0, 10, 0.0)
    contexts.come_back("waits")
    for number in range(5000):
        contexts.go_away(f"p{number}", 0.0, 10, float(number))
    assert len(contexts) <= GONE_HALF_LIVES * HALF_LIFE_S + 3
    assert contexts.num_tokens(5000.0, besides="p4999") > 10.0, "the one that waits is there still"


def aside(core: LiveCore) -> list[str]:
    return sorted(entry[2].request_id for entry in core.core.pools["p"].aside)


def with_contexts() -> LiveCore:
    """A replica for 1,000 tokens where 100 run, and the programs `a` and `b` have contexts of 400 each."""
    core = LiveCore(8, max_tokens=1000)
    for number, name in enumerate("ab"):
        core.ask(f"{name}0", float(number), name, num_prompt_tokens=400)
    core.ask("long", 2.0, num_prompt_tokens=100)
    core.end("a0", 3.0, 400)
    core.end("b0", 3.0, 400)
    return core


def test_a_new_program_waits_aside_and_holds_back_nobody() -> None:
    core = with_contexts()
    assert core.ask("new", 4.0, "c", num_prompt_tokens=300) == []
    assert aside(core) == ["new"]
    assert core.ask("alone", 5.0, num_prompt_tokens=50) == ["alone"], "later, and beside it"
    assert core.ask("a1", 6.0, "a", num_prompt_tokens=400) == ["a1"], "a turn of a program that is active"
    assert core.end("a1", 7.0, 450) == []
    assert core.tell(WorkflowEnded(8.0, "a")) != []
    assert aside(core) == []
    assert core.replicas["p/0"].num_running == 3


def test_the_latest_program_pauses_where_contexts_have_grown() -> None:
    core = with_contexts()
    assert core.ask("b1", 4.0, "b", num_prompt_tokens=600) == [], "400 of a, 100 that run and 600 are too much"
    assert core.ask("a1", 5.0, "a", num_prompt_tokens=600) == ["a1"], "it came before"
    assert core.end("a1", 6.0, 610) == []
    assert core.tell(WorkflowEnded(7.0, "b")) == [], "its own request waits for the contexts of others"
    assert started(core.tell(WorkflowEnded(8.0, "a"))) == ["b1"]


def test_a_program_that_runs_counts_once() -> None:
    core = with_contexts()
    assert core.ask("a1", 4.0, "a", num_prompt_tokens=450) == ["a1"]
    assert core.replicas["p/0"].contexts.num_tokens(3.0) == 400.0, "that of b; what runs is held by what runs"
    core.end("a1", 5.0, 460)
    assert core.replicas["p/0"].contexts.num_tokens(5.0, besides="b") == 460.0


def test_a_program_whose_next_call_waits_keeps_its_weight() -> None:
    core = with_contexts()
    core.ask("b1", 4.0, "b", num_prompt_tokens=600)
    weights = [core.replicas["p/0"].contexts.num_tokens(time_s, besides="a") for time_s in (4.0, 90.0)]
    assert weights == [400.0, 400.0]


def test_what_waits_aside_can_be_cancelled() -> None:
    core = with_contexts()
    core.ask("new", 4.0, "c", num_prompt_tokens=300)
    core.tell(RequestCancelled(5.0, "new"))
    assert aside(core) == []
    assert core.core.num_unfinished == 1


def test_what_waits_aside_is_given_up_with_its_pool() -> None:
    core = with_contexts()
    core.ask("new", 4.0, "c", num_prompt_tokens=300)
    assert core.tell(PoolClosed(5.0, "p")) == [GiveUp("new", 0, "closed")]
    assert core.core.num_unfinished == 1


def test_it_goes_where_there_is_room() -> None:
    core = LiveCore(4, 4, max_tokens=1000)
    for name in "abcd":
        core.ask(f"{name}0", 0.0, name, num_prompt_tokens=450)
    core.ask("x", 1.0, num_prompt_tokens=50)
    core.ask("y", 1.0, num_prompt_tokens=50)
    for name in "abcd":
        core.end(f"{name}0", 2.0, 450)
    assert core.ask("new", 3.0, "e", num_prompt_tokens=400) == []
    (at_one,) = {core.workflows["a"].replica_ids["p"]}
    assert places(core.tell(WorkflowEnded(4.0, "a"))) == [at_one]


def test_new_programs_spread_by_contexts() -> None:
    core = LiveCore(4, 4, max_tokens=1000)
    (first,) = places(core.tell(arrived("a0", 0.0, "a", 300)))
    core.end("a0", 1.0, 300)
    core.ask("b0", 2.0, "b", num_prompt_tokens=10)
    assert core.workflows["b"].replica_ids["p"] != first
    core.end("b0", 3.0, 10)
    core.ask("c0", 4.0, "c", num_prompt_tokens=10)
    assert core.workflows["c"].replica_ids["p"] != first, "both idle, and each has had one"
    assert places(core.tell(arrived("a1", 5.0, "a", 310))) == [first]


def test_one_timer_for_each_time() -> None:
    core = with_contexts()
    wakes = [one.time_s for one in core.tell(arrived("new", 4.0, "c", 900)) if isinstance(one, WakeAt)]
    assert wakes == [4.0 + MAX_WAIT_S]
    core.ask("alone", 5.0)
    core.end("alone", 6.0)
    assert core.tell(TimerFired(50.0)) == []
    assert core.end("long", 60.0) == ["new"], "an idle replica takes anything"


def arrived(name: str, time_s: float, program: str, num_tokens: int) -> RequestArrived:
    return RequestArrived(time_s, name, "p", num_prompt_tokens=num_tokens, workflow_id=program, facts=TURN)


def test_the_books_of_programs_are_bounded() -> None:
    """20,000 programs, one each second; half of them say that they have ended."""
    core = LiveCore(8, max_tokens=10_000)
    book = core.core._turns
    for number in range(20_000):
        time_s = float(number)
        core.core.handle(arrived(f"r{number}", time_s, f"w{number}", 10))
        core.core.handle(RequestFinished(time_s + 0.5, f"r{number}", 10))
        if number % 2:
            core.core.handle(WorkflowEnded(time_s + 0.75, f"w{number}"))
    core.core.check()
    assert len(core.workflows) == 1800
    assert len(book._contexts) == 1800
    assert len(core.replicas["p/0"].contexts) <= GONE_HALF_LIVES * HALF_LIFE_S / 2 + 2
    core.tell(ReplicaDown(20_001.0, "p/0"))
    core.tell(ReplicaUp(20_001.0, "p/0"))
    core.tell(ReplicaRemoved(20_002.0, "p/0"))
    assert len(book._contexts) == 0


def batch(tier: Tier = "batch", **more: int) -> RequestView:
    request = RequestView("r", "p", facts=CallFacts(tier=tier))
    for field, value in more.items():
        setattr(request, field, value)
    return request


@pytest.mark.parametrize(
    ("request_", "slots", "num_running", "tokens", "first", "expected"),
    [
        (batch(), 20, 16, 0, "batch", True),
        (batch(), 20, 17, 0, "batch", False),
        (batch("flex"), 20, 19, 0, "batch", True),
        (batch(), 4, 2, 0, "batch", True),
        (batch(), 4, 3, 0, "batch", False),
        (batch(), 1, 0, 0, "batch", True),
        (batch(), 20, 1, 0, "flex", False),
        (batch(), 20, 0, 0, "default", False),
        (batch(num_prompt_tokens=350), 20, 1, 500, "batch", True),
        (batch(num_prompt_tokens=351), 20, 1, 500, "batch", False),
    ],
)
def test_batch_work_leaves_room(
    request_: RequestView, slots: int, num_running: int, tokens: int, first: Tier, expected: bool
) -> None:
    where = ReplicaView("p/0", "p", slots, 1000, num_running)
    where.running.hold("x", (), tokens, 0)
    sched = SchedView(first_waiting=batch(first))
    assert (beside_live(request_, where, sched) == Admitted()) is expected


def test_a_batch_fills_what_is_left_and_waits_for_those_that_wait() -> None:
    core = LiveCore(4, 4)
    work = CallFacts(tier="batch")
    begun = [name for number in range(10) for name in core.ask(f"b{number}", 0.0, facts=work)]
    assert len(begun) == 6, "one slot of each replica is left"
    assert [core.ask(name, 1.0) for name in "wx"] == [["w"], ["x"]]
    assert [core.ask(name, 1.0) for name in "yz"] == [[], []]
    assert [core.end(f"b{number}", 2.0) for number in range(2)] == [["y"], ["z"]]
    assert core.end("b2", 3.0) == [], "the slot is left to what comes"
    assert core.ask("v", 4.0) == ["v"]
    assert core.end("v", 5.0) == []
    assert core.end("w", 6.0) != [], "two are free at a replica"


def test_a_batch_that_waits_has_its_turn_after_an_hour() -> None:
    core = LiveCore(1)
    core.ask("x0", 0.0)
    core.ask("work", 1.0, facts=CallFacts(tier="batch"))
    order: list[str] = []
    running = "x0"
    for number in range(1, 30):
        time_s = 3500.0 + 10.0 * number
        core.ask(f"x{number}", time_s)
        (running,) = core.end(running, time_s + 1.0)
        order.append(running)
    assert order.index("work") == 9, "at the first end after 3,601 s"
