"""Halo's online experiment: loads are what they say, each arm answers as computed by hand, and equal calls are made as
often as the arm's rules have it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
from online.answered import Answered, ended_per_s, is_sustained, mean_open, peak_per_s, percentile
from online.arms import ARMS, COMPARED
from online.batch_run import BatchRun, plan_of, tools_of
from online.batches import BatchedRun, Batching
from online.figures import Effort, OnlineCase, measured, ratios, sustained_per_s
from online.fleet_run import FleetRun
from online.flows import row_of, write_flow, write_requests
from online.load import Asked, Load
from online.ours import OurRun, facts_of, planned_shares
from online.workload import Machines, best_shares, by_supersteps, most_per_s, path_s, shares_per_s
from placed import timed
from placed.cases import Case
from placed.graphs import CALL_S, Graph, GraphStep, published_graphs

from sundog.session.flow_file import load_plan

GRAPHS = published_graphs()
MACHINES = Machines()
CHAIN = Graph(
    "chain",
    (
        GraphStep("first", "o20", ()),
        GraphStep("found", "http", ("first",)),
        GraphStep("second", "q14", ("found", "first")),
    ),
    3.0,
)
PATH_S = 2 * CALL_S + 3
EVERY_GRAPH = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)


def at(*times_s: float, queries: Sequence[int] | None = None) -> list[Asked]:
    return [Asked(time_s, row if queries is None else queries[row]) for row, time_s in enumerate(times_s)]


def latencies(answered: Sequence[Answered]) -> list[float]:
    return [round(one.latency_s, 6) for one in answered]


def test_an_even_load_and_its_ramp() -> None:
    assert [one.time_s for one in Load("even", 2.0, "none", duration_s=2.0).asked()] == [0.0, 0.5, 1.0, 1.5]
    ramp = Load("even", 10.0, "none", is_ramp=True).asked()
    assert len(ramp) == pytest.approx(600 * 10.05 / 2, rel=0.02)
    assert sum(one.time_s < 300 for one in ramp) == pytest.approx(len(ramp) / 4, rel=0.02)


@pytest.mark.parametrize("is_ramp", [False, True])
def test_a_poisson_load_has_its_rate_and_is_the_same_each_time(is_ramp: bool) -> None:
    load = Load("poisson", 20.0, "halo", is_ramp=is_ramp)
    asked = load.asked()
    times_s = [one.time_s for one in asked]
    assert times_s == sorted(times_s)
    assert times_s[-1] < 600
    assert len(asked) == pytest.approx(600 * (10.025 if is_ramp else 20.0), rel=0.05)
    assert asked == load.asked()
    assert asked != replace(load, seed=1).asked()


def test_queries_repeat_as_is_said() -> None:
    assert {one.query for one in Load("even", 5.0, "halo").asked()} == set(range(150))
    assert [one.query for one in Load("even", 5.0, "none").asked()] == list(range(3000))


def test_rates_and_percentiles() -> None:
    answered = [Answered(float(second), second + 2.0) for second in range(30)] + [Answered(29.0, inf)]
    assert peak_per_s(answered) == 16 / 15
    assert ended_per_s(answered, 11.0, 21.0) == 1.0
    assert mean_open(answered, 10.0, 20.0) == 2.0
    assert mean_open(answered, 29.0, 31.0) == 1.0 + 1.5
    assert [percentile([1.0, 2.0, 3.0, 4.0], share) for share in (0.5, 0.51, 1.0)] == [2.0, 3.0, 4.0]


def test_a_load_is_not_sustained_where_requests_pile_up() -> None:
    assert is_sustained([Answered(float(second), second + 30.0) for second in range(600)], 600.0)
    assert not is_sustained([Answered(float(second), second * 1.2) for second in range(600)], 600.0)


@EVERY_GRAPH
def test_the_planner_gives_models_the_shares_that_allow_most(graph: Graph) -> None:
    best = shares_per_s(graph, best_shares(graph, MACHINES))
    assert shares_per_s(graph, planned_shares(graph, MACHINES)) == pytest.approx(best)
    assert best <= most_per_s(graph, MACHINES)


@EVERY_GRAPH
def test_a_request_alone_takes_its_path_in_every_arm(graph: Graph) -> None:
    """Windows begin with the next second; supersteps take longer where a step could begin before others end."""
    expected_s = {name: path_s(graph) for name in ARMS}
    expected_s["langgraph"] = path_s(by_supersteps(graph))
    for name in ("windows", "windows_merging"):
        expected_s[name] += 1.0
    for name, arm in ARMS.items():
        if name != "segments_reload":
            assert latencies(arm(graph, MACHINES).run(at(0.0))) == [pytest.approx(expected_s[name], abs=0.01)], name


def test_supersteps_wait_for_all_that_is_less_deep() -> None:
    steps = {step.name: step.parents for step in by_supersteps(GRAPHS["w4"]).steps}
    assert steps["c2"] == ("a1", "c1")  # in the graph it reads c1 alone
    assert path_s(by_supersteps(GRAPHS["w2"])) > path_s(GRAPHS["w2"])


def test_calls_queue_at_the_next_replica_in_turn() -> None:
    """33 calls at once on one replica of 32 places: one waits for a whole call."""
    asked = at(*[0.0] * 33)
    alone = FleetRun(CHAIN, MACHINES, {"o20": 1, "q14": 1}).run(asked)
    assert sorted(latencies(alone)) == [pytest.approx(PATH_S)] * 32 + [pytest.approx(PATH_S + CALL_S)]
    beside = FleetRun(CHAIN, MACHINES, {"o20": 2, "q14": 2}).run(asked)
    assert latencies(beside) == pytest.approx([PATH_S] * 33)


def test_tools_with_places_queue() -> None:
    answered = FleetRun(CHAIN, Machines(1), {"o20": 1, "q14": 1}).run(at(0.0, 0.0, 0.0))
    assert latencies(answered) == pytest.approx([PATH_S, PATH_S + 3, PATH_S + 6])


@pytest.mark.parametrize("name", ["w2", "w5"])
def test_the_core_answers_a_load_without_repetition_as_asyncio_does(name: str) -> None:
    """Two simulations of the same thing: first come first served, nothing shared."""
    graph, asked = GRAPHS[name], Load("poisson", 2.0, "none", duration_s=60.0).asked()
    core = OurRun(graph, MACHINES, "fcfs").run(asked)
    assert latencies(core) == pytest.approx(
        latencies(FleetRun(graph, MACHINES, planned_shares(graph, MACHINES)).run(asked)), abs=1e-3
    )


def test_ours_makes_equal_llm_calls_once_and_each_look_up() -> None:
    asked = at(0.0, 1.0, 100.0, 101.0, queries=[7, 7, 7, 8])
    run = OurRun(CHAIN, MACHINES)
    assert latencies(run.run(asked)) == pytest.approx([PATH_S, PATH_S - 1 + 0, 3.0, PATH_S])
    assert (run.counts.num_asked, run.counts.num_executed) == (12, 2 * 2 + 4)
    shared = OurRun(CHAIN, MACHINES, shares_tools=True)
    assert latencies(shared.run(asked)) == pytest.approx([PATH_S, PATH_S - 1, 0.0, PATH_S])
    assert shared.counts.num_executed == 2 * 3


def test_ours_tells_the_core_what_the_plan_knows() -> None:
    facts = facts_of(GRAPHS["w1"])
    assert set(facts) == {step.name for step in GRAPHS["w1"].steps}
    last = {name for name, one in facts.items() if one.is_last_turn}
    assert {"tail_focus", "imdb_final_answer", "hub_full_context"} <= last  # of each engine


@pytest.mark.parametrize("policy", ["prefix_grouped", "live"])
def test_under_overload_requests_end_in_the_order_in_which_they_came(policy: str) -> None:
    """First come first served for each call would end few of them: later ones' first calls come before last calls."""
    asked = Load("even", 13.0, "none", duration_s=60.0).asked()
    num_ended = [
        sum(one.end_s < inf for one in OurRun(GRAPHS["w1"], MACHINES, name).run(asked, 100.0))
        for name in (policy, "fcfs")
    ]
    assert num_ended[0] > 1.2 * num_ended[1]


def test_what_has_not_ended_in_time_has_no_end() -> None:
    for name, arm in ARMS.items():
        answered = arm(CHAIN, MACHINES).run(at(0.0, 20.0), 16.0)
        assert (answered[0].end_s < inf, answered[1].end_s) == (name != "segments_reload", inf), name


def test_windows_take_what_has_come_and_block() -> None:
    """The first window begins at 1 s and ends 12.6 s later; the next sleeps a second and takes the other two."""
    answered = BatchedRun(CHAIN, MACHINES, Batching()).run(at(0.5, 1.5, 14.0))
    ends_s = [round(one.end_s, 6) for one in answered]
    assert ends_s == pytest.approx([1 + PATH_S, 2 + 2 * PATH_S, 2 + 2 * PATH_S])


def test_segments_follow_each_other_and_models_stay_or_are_loaded_anew() -> None:
    """40 requests in the buffer are segments of 32 and 8; a load of the 20B model takes 15 s, and the other one loads
    meanwhile."""
    asked = at(0.0, *[1.0] * 40)
    kept = BatchedRun(CHAIN, MACHINES, Batching(32)).run(asked)
    assert sorted({round(one.end_s / PATH_S, 6) for one in kept}) == pytest.approx([1, 2, 3])
    anew = BatchedRun(CHAIN, MACHINES, Batching(32, keeps_models=False)).run(asked)
    assert sorted({round(one.end_s / (PATH_S + 15), 6) for one in anew}) == pytest.approx([1, 2, 3])


def test_a_batch_makes_equal_look_ups_once_and_llm_calls_where_it_merges() -> None:
    """One place for tools: three requests of two queries take two look-ups, one if one is kept."""
    machines, none = Machines(1, 2), (None, None)
    plan = plan_of(CHAIN, machines, 4, none, "halo_dp")

    def ends_s(shared: frozenset[str], kept: set[tuple[str, int]]) -> list[float]:
        ran = BatchRun(Case(CHAIN, 2, 3, 1), plan, [5, 5, 6], ("o20", "q14"), shared, kept).run()
        return [round(end_s, 6) for end_s in ran.ends_s]

    tools = tools_of(CHAIN)
    assert tools == {"found"}
    assert ends_s(frozenset(), set()) == pytest.approx([PATH_S, PATH_S + 3, PATH_S + 6])
    assert ends_s(tools, set()) == pytest.approx([PATH_S, PATH_S, PATH_S + 3])
    assert ends_s(tools, {("found", 5)}) == pytest.approx([2 * CALL_S, 2 * CALL_S, PATH_S])
    everything = frozenset(step.name for step in CHAIN.steps)
    assert ends_s(everything, {(name, 5) for name in everything}) == pytest.approx([0, 0, PATH_S])


def test_the_sustained_rate_is_that_of_the_narrowest_model() -> None:
    """Two steps, three workers: the better model has two, so one worker of 32 places is the limit."""
    case = OnlineCase(CHAIN, "even", "none", Machines(num_workers=3), Effort(duration_s=120.0, tolerance=1.05))
    assert sustained_per_s(case, ARMS["asyncio"]) == pytest.approx(32 / CALL_S, rel=0.1)


def test_a_quick_case_has_all_figures() -> None:
    effort = Effort(duration_s=120.0, tolerance=2.0, most_times=1.5, shares=(0.75,), arms=tuple(COMPARED))
    case = OnlineCase(GRAPHS["w1"], "even", "halo", Machines(num_workers=4), effort)
    found = measured(case)
    json.dumps(found)
    assert set(found["sustained_per_s"]) == set(found["ramp_peak_per_s"]) == set(COMPARED)
    assert [(load["of"], load["share"]) for load in found["fixed"]] == [("best_published", 0.75), ("ours", 0.75)]
    goals = ratios(found)
    assert goals["over_best"] is not None
    assert goals["over_best"] >= 1.0


@EVERY_GRAPH
def test_the_flows_have_the_steps_of_the_graphs(graph: Graph, tmp_path: Path) -> None:
    timed.register()
    plan = load_plan(write_flow(graph, tmp_path, best_shares(graph, MACHINES)), {})
    assert {node.name for node in plan.nodes} >= {step.name for step in graph.steps}


def test_requests_are_lines_with_their_times(tmp_path: Path) -> None:
    asked = at(0.0, 0.25, queries=[3, 3])
    write_requests(asked, tmp_path / "load.jsonl")
    lines: list[dict[str, Any]] = [json.loads(line) for line in (tmp_path / "load.jsonl").read_text().splitlines()]
    assert lines == [{"time_s": 0.0, "row": row_of(asked[0])}, {"time_s": 0.25, "row": {"query": "query 3"}}]
