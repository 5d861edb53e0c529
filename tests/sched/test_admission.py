"""Admission by predicted KV peak: tables, the law of the peak, and runs in which nothing may overflow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.sched.books.samples import RecentSamplesByKey
from sundog.sched.policies.admission import (
    aggressive,
    beside_retained,
    conservative,
    past_future,
    predicted_peak_tokens,
)
from sundog.sched.policy import Admit, Admitted
from sundog.sched.views import ReplicaView, RequestView, SchedView, WorkflowView

Lengths = RecentSamplesByKey[tuple[str, str]]


def seen(**lengths: Iterable[int]) -> SchedView:
    """Answers of these lengths were seen, by node."""
    history: Lengths = RecentSamplesByKey(max_samples=200, max_keys=9)
    for node, samples in lengths.items():
        for sample in samples:
            history.add((node, "m"), sample)
    return SchedView(output_lengths=history)


def request(name: str, num_prompt: int, bound: int, node: str = "", key: tuple[int, ...] = ()) -> RequestView:
    return RequestView(name, "p", 0.0, 0, 0, num_prompt, bound, key, node=node, model="m", max_tokens=bound)


def start(replica: ReplicaView, one: RequestView, num_output_tokens: int = 0, *, is_seen: bool = True) -> None:
    one.num_output_tokens = num_output_tokens
    replica.num_running += 1
    replica.running.hold(one.request_id, one.prefix_key, one.num_prompt_tokens, one.max_output_tokens)
    if is_seen:
        replica.requests[one.request_id] = one


def finish(replica: ReplicaView, one: RequestView) -> None:
    replica.num_running -= 1
    replica.running.release(one.request_id)
    del replica.requests[one.request_id]


@pytest.mark.parametrize(
    ("held", "peak"),
    [
        ([], 0),
        ([(100, 10)], 110),
        ([(100, 10), (50, 0)], 150),  # now: the second ends at once
        ([(100, 10), (50, 10)], 170),  # both at their ends
        ([(10, 100), (10, 50), (10, 50)], 180),  # when the two shorter ones end
        ([(10, 200), (10, 5), (10, 5)], 210),  # when the longest ends alone
    ],
)
def test_predicted_peak(held: list[tuple[float, float]], peak: float) -> None:
    assert predicted_peak_tokens(held) == peak


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30)), max_size=8))
def test_the_peak_is_that_of_the_run(held: list[tuple[int, int]]) -> None:
    """Step by step, as long as anything runs."""
    tokens = [
        sum(num_now + step for num_now, num_to_come in held if step <= num_to_come)
        for step in range(max((num_to_come for _, num_to_come in held), default=0) + 1)
    ]
    assert predicted_peak_tokens(held) == max(tokens)


KNOWN = seen(short=[20] * 30, mixed=[*[20] * 29, 400])


@pytest.mark.parametrize(
    ("why", "limit", "newcomer", "sched", "expected"),
    [
        ("full lengths 300 + 300 + 300 + 300", 1200, request("n", 100, 200), SchedView(), "CA-"),
        ("no history: as conservative, less the reserve", 1270, request("n", 100, 200), SchedView(), "CAP"),
        ("all end after 20 tokens", 600, request("n", 100, 200, "short"), KNOWN, "-AP"),
        ("not even their prompts fit", 390, request("n", 100, 200, "short"), KNOWN, "---"),
        ("their prompts fit, not what they produce", 410, request("n", 100, 200, "short"), KNOWN, "-A-"),
        ("of its prompt 300 tokens are there", 650, request("n", 400, 200, "short", (1, 2, 3)), KNOWN, "-AP"),
        ("nothing of it is there", 650, request("n", 400, 200, "short", (7, 8, 9)), KNOWN, "---"),
        ("it alone is too large", 110, request("n", 500, 200), SchedView(), "---"),
    ],
)
def test_three_running_and_one_that_wants_to(
    why: str, limit: int, newcomer: RequestView, sched: SchedView, expected: str
) -> None:
    """Three that run: each with 100 prompt tokens, the first with blocks of 400, answers of at most 200. `expected`:
    who admits: Conservative, Aggressive, Past-future."""
    replica = ReplicaView("p/0", "p", 8, limit)
    if newcomer.prefix_key:
        start(replica, request("other", 400, 200, "short", (1, 2, 3)))
    else:
        for name in "abc":
            start(replica, request(name, 100, 200, "short"))
    admits = {"C": conservative, "A": aggressive, "P": past_future}
    told = "".join(name if admit(newcomer, replica, sched) == Admitted() else "-" for name, admit in admits.items())
    assert told == expected, why


ADMITS = pytest.mark.parametrize("admit", [conservative, aggressive, past_future, beside_retained])


@ADMITS
def test_an_idle_replica_takes_anything(admit: Admit) -> None:
    assert admit(request("n", 500, 500), ReplicaView("p/0", "p", 8, 100), SchedView()) == Admitted()


@ADMITS
def test_a_replica_without_a_limit_takes_anything(admit: Admit) -> None:
    replica = ReplicaView("p/0", "p", 8)
    start(replica, request("a", 500, 500))
    assert admit(request("n", 500, 500), replica, SchedView()) == Admitted()


def test_what_is_produced_counts_as_held_and_no_more_as_to_come() -> None:
    """150 of 200 tokens are produced: in 50 steps both end, with 300 and 150 tokens."""
    replica = ReplicaView("p/0", "p", 8, 1000)
    start(replica, request("a", 100, 200), 150)
    replica.max_tokens_in_flight = round(450 / 0.95) + 1
    assert past_future(request("n", 100, 50), replica, SchedView()) == Admitted()
    replica.max_tokens_in_flight -= 2
    assert past_future(request("n", 100, 50), replica, SchedView()) != Admitted()


def test_a_host_that_sees_no_output_is_taken_at_its_word() -> None:
    """Bounds of 200 count in full where the requests themselves are not seen; with them the history does."""
    newcomer = request("n", 100, 200, "short")
    verdicts = []
    for is_seen in (True, False):
        replica = ReplicaView("p/0", "p", 8, 500)
        start(replica, request("a", 100, 200, "short"), is_seen=is_seen)
        start(replica, request("b", 100, 200, "short"), is_seen=is_seen)
        verdicts.append(past_future(newcomer, replica, KNOWN) == Admitted())
    assert verdicts == [True, False]


def test_retained_tokens_are_no_room() -> None:
    replica = ReplicaView("p/0", "p", 8, 600)
    start(replica, request("a", 100, 200, "short"))
    assert past_future(request("n", 100, 200, "short"), replica, KNOWN) == Admitted()
    replica.num_retained_tokens = 400
    assert past_future(request("n", 100, 200, "short"), replica, KNOWN) != Admitted()


def test_new_programs_take_no_room_that_is_retained() -> None:
    """The replica has 1000 tokens, of which 400 are retained and 100 are held by one that will hold 150: 450 are left
    for new programs."""
    replica = ReplicaView("p/0", "p", 8, 1000, num_retained_tokens=400)
    start(replica, request("a", 100, 50))
    assert beside_retained(request("n", 450, 9), replica, SchedView()) == Admitted()
    assert beside_retained(request("n", 451, 9), replica, SchedView()) != Admitted()
    back = request("b", 600, 9)
    back.workflow_id = "w"
    workflow = WorkflowView("w", arrival_s=0.0, retained_until_s=1.0)
    assert beside_retained(back, replica, SchedView(workflows={"w": workflow})) == Admitted()
    workflow.retained_until_s = 0.0
    assert beside_retained(back, replica, SchedView(workflows={"w": workflow})) != Admitted()
    replica.num_retained_tokens = 0
    assert beside_retained(back, replica, SchedView()) == Admitted()


def test_each_request_may_end_inside_a_block() -> None:
    """Blocks of 33 tokens: 16 more for each of two requests."""
    for block_tokens, expected in ((1, True), (33, False)):
        replica = ReplicaView("p/0", "p", 8, 270, block_tokens=block_tokens)
        start(replica, request("a", 100, 20))
        assert (past_future(request("n", 100, 20), replica, SchedView()) == Admitted()) is expected


def test_draws_differ_between_requests_and_stay_the_same() -> None:
    """One answer in thirty is long: some requests are refused for it, and the same ones when asked again."""
    replica = ReplicaView("p/0", "p", 100, 700)
    start(replica, request("a", 100, 400, "short"))

    def verdicts() -> list[bool]:
        names = [f"n{number}" for number in range(200)]
        return [past_future(request(name, 300, 400, "mixed"), replica, KNOWN) == Admitted() for name in names]

    first = verdicts()
    assert first == verdicts()
    assert 0 < first.count(False) < 100


@dataclass
class Run:
    """Requests in order of arrival, admitted as soon as they may be; each that runs grows by a token a step."""

    replica: ReplicaView
    sched: SchedView
    lengths: dict[str, int]
    waiting: list[RequestView]
    running: list[RequestView] = field(default_factory=list)

    def held_tokens(self) -> int:
        blocks = {block for one in self.running for block in one.prefix_key}
        own = sum(one.num_prompt_tokens - 10 * len(one.prefix_key) + one.num_output_tokens for one in self.running)
        return 10 * len(blocks) + own

    def step(self, admit: Admit) -> int:
        """The tokens held at the end of the step, before what has ended is freed."""
        while self.waiting and admit(self.waiting[0], self.replica, self.sched) == Admitted():
            one = self.waiting.pop(0)
            start(self.replica, one)
            self.running.append(one)
        for one in self.running:
            one.num_output_tokens += 1
        num_held = self.held_tokens()
        for one in [one for one in self.running if one.num_output_tokens == self.lengths[one.request_id]]:
            self.running.remove(one)
            finish(self.replica, one)
        return num_held


NODES = {"brief": 3, "plain": 12, "wordy": 40}
KNOWN_LENGTHS = seen(**{node: [length] * 25 for node, length in NODES.items()})
PROMPTS = st.tuples(st.sampled_from(list(NODES)), st.lists(st.integers(0, 3), max_size=4, unique=True))


@given(limit=st.integers(100, 400), prompts=st.lists(PROMPTS, min_size=1, max_size=15))
def test_with_known_lengths_a_run_never_overflows(limit: int, prompts: list[tuple[str, list[int]]]) -> None:
    """Answers may have 200 tokens and have what their step always had; prompts share blocks of ten tokens. Whatever is
    admitted, what is held stays within the limit (or is one request alone), and every request ends."""
    waiting = [
        request(str(number), 10 * len(key) + 10, 200, node, tuple(key)) for number, (node, key) in enumerate(prompts)
    ]
    lengths = {one.request_id: NODES[one.node] for one in waiting}
    run = Run(ReplicaView("p/0", "p", 100, limit), KNOWN_LENGTHS, lengths, waiting)
    num_steps = 0
    while run.waiting or run.running:
        num_held = run.step(past_future)
        assert num_held <= limit
        num_steps += 1
    assert num_steps <= sum(lengths.values())


def test_past_future_runs_more_at_once_than_conservative_and_overflows_less_than_aggressive() -> None:
    """40 requests with answers of 12 tokens out of 200 allowed, in memory for 400: the most that ever run at once, and
    by how much the limit was passed."""
    found = {}
    for admit in (conservative, past_future, aggressive):
        waiting = [request(str(number), 20, 200, "plain") for number in range(40)]
        run = Run(ReplicaView("p/0", "p", 100, 400), KNOWN_LENGTHS, dict.fromkeys(map(str, range(40)), 12), waiting)
        most = over = 0
        while run.waiting or run.running:
            over = max(over, run.step(admit) - 400)
            most = max(most, len(run.running))
        found[admit.__name__] = most, over
    assert found == {"conservative": (1, 0), "past_future": (12, 0), "aggressive": (20, 240)}
