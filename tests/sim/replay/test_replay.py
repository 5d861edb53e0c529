"""A run's own logs as a load: replayed under the same policy it takes exactly as long as it did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.config import read_config
from sundog.engines.modelled.replica import StepSeconds
from sundog.errors import ConfigError
from sundog.host.event_log import EventLog
from sundog.host.virtual_loop import run_virtually
from sundog.ir.physical import PhysicalPlan
from sundog.optimizer.placement_figures import PlacementFigures
from sundog.runtime.kept_runs import event_logs
from sundog.sched.events import Event, ReplicaAdded, RequestArrived, RequestFailed, RequestFinished, TimerFired
from sundog.session.session import plan_session
from sundog.sim.replay.logged_placement import logged_placing
from sundog.sim.replay.logged_run import read_run
from sundog.sim.replay.replay import ReplayedRun, replayed_run
from sundog.sim.simulate import Simulated, simulate_load
from sundog.sim.workload import EngineFleet, ModelledEngine
from tests.sim.test_equals_run import STEP_TIME, flow_of

POOL = "engine:local"


def fleet(options: dict[str, Any]) -> EngineFleet:
    """Return the flow's engine as it is."""
    most = options.get("max_kv_tokens")
    engine = ModelledEngine(
        options["max_concurrency"],
        StepSeconds(*STEP_TIME),
        max_tokens_in_flight=most,
        max_kv_tokens=most,
        block_tokens=None if most is None else 32,
    )
    return EngineFleet(engine, options.get("replicas", 1))


def plan_of(flow: sd.Flow) -> PhysicalPlan:
    return plan_session(flow.plan(), flow.base_dir, read_config(None)).plan


def logs_of(flow: sd.Flow, state: Path) -> tuple[list[Path], float]:
    """Return the logs of a run in virtual time, and how long its rows took."""
    report = run_virtually(flow.arun(state=state, fresh=True), waits_for_threads=True).report
    assert report.rows_s is not None
    return list(event_logs(state, report.run_id)), report.rows_s


def replayed(flow: sd.Flow, state: Path, fleets: dict[str, EngineFleet]) -> tuple[ReplayedRun, Simulated, float]:
    logs, rows_s = logs_of(flow, state)
    logged = read_run(logs)
    run = replayed_run(logged, plan_of(flow), fleets)
    return run, simulate_load(run.workload, logged.policy), rows_s


@pytest.mark.parametrize("shape", ["chain", "diamond", "fan"])
@pytest.mark.parametrize(
    "options",
    [{"max_concurrency": 8}, {"max_concurrency": 4, "replicas": 3}],
    ids=["slots", "replicas"],
)
def test_a_replay_takes_exactly_as_long(shape: str, options: dict[str, Any], tmp_path: Path) -> None:
    run, simulated, rows_s = replayed(flow_of(shape, options), tmp_path, {POOL: fleet(options)})
    assert run.makespan_s == pytest.approx(rows_s, rel=1e-9)
    assert simulated.makespan_s == pytest.approx(rows_s, rel=1e-9)
    assert run.assumptions == ()


@pytest.mark.parametrize("shape", ["chain", "diamond", "fan"])
def test_with_a_cache_a_replay_is_near(shape: str, tmp_path: Path) -> None:
    """Blocks of the scheduler's prompts are not quite those of the engine's."""
    options = {"max_concurrency": 8, "max_kv_tokens": 4096}
    _, simulated, rows_s = replayed(flow_of(shape, options), tmp_path, {POOL: fleet(options)})
    assert simulated.makespan_s == pytest.approx(rows_s, rel=0.01)


def test_other_machines_and_policies_answer_what_would_have_been(tmp_path: Path) -> None:
    options = {"max_concurrency": 8}
    flow = flow_of("chain", options)
    logs, rows_s = logs_of(flow, tmp_path)
    one = fleet(options)
    logged = read_run(logs)
    two = replayed_run(logged, plan_of(flow), {POOL: replace(one, num_replicas=2)})
    for policy in ("fcfs", "shortest_remaining", logged.policy):
        faster = simulate_load(two.workload, policy)
        assert rows_s / 2.2 < faster.makespan_s < rows_s / 1.5
        assert faster.num_executed == 120


def test_calls_without_a_model_take_what_they_took(tmp_path: Path) -> None:
    """No engine of the run is modelled here: each call brings its seconds."""
    options = {"max_concurrency": 8}
    run, simulated, rows_s = replayed(flow_of("diamond", options), tmp_path, {})
    assert simulated.makespan_s == pytest.approx(rows_s, rel=1e-9)
    assert run.assumptions == ("calls of local take as long as they did beside the calls of the run",)


def looping() -> sd.Flow:
    flow = sd.Flow("looping")
    flow.engine("local", kind="null", step_time=STEP_TIME, max_step_tokens=256, output_tokens=20, max_concurrency=4)
    flow.input("rows", rows=[{"a": n} for n in range(12)])
    flow.llm("group", engine="local", prompt="Group {{ row.a % 3 }}")
    with flow.loop("again", max_turns=3) as turn:
        turn.llm("draft", engine="local", prompt="{{ group.text }} {{ row.a }} {{ loop.turn }}")
        turn.llm("review", engine="local", prompt="{{ draft.text }}?")
        turn.until("{{ loop.turn > row.a % 3 }}")
    flow.llm("end", engine="local", prompt="{{ again.turns }} {{ row.a }}")
    flow.output(text="{{ end.text }}")
    return flow


def test_loops_and_joined_calls_wait_for_what_they_waited_for(tmp_path: Path) -> None:
    flow = looping()
    _, simulated, rows_s = replayed(flow, tmp_path, {POOL: fleet({"max_concurrency": 4})})
    assert simulated.makespan_s == pytest.approx(rows_s, rel=1e-9)
    assert simulated.num_executed == 3 + 2 * sum(n % 3 + 1 for n in range(12)) + 12


def test_a_run_of_another_flow_is_told(tmp_path: Path) -> None:
    logs, _ = logs_of(flow_of("chain", {"max_concurrency": 8}), tmp_path)
    with pytest.raises(ConfigError, match="calls of 'first', which is no step of this flow's plan"):
        replayed_run(read_run(logs), plan_of(looping()))


def test_a_run_without_calls_is_told(tmp_path: Path) -> None:
    log = EventLog(tmp_path, "fcfs", 8)
    log.append(ReplicaAdded(0.0, "local/0", POOL, 8))
    log.close()
    with pytest.raises(ConfigError, match="no call that was answered"):
        replayed_run(read_run([log.path]), plan_of(looping()))


def write_log(folder: Path, events: list[Event]) -> Path:
    log = EventLog(folder, "fcfs", 8)
    for event in events:
        log.append(event)
    log.close()
    return log.path


def asked(time_s: float, row: int, step: str) -> RequestArrived:
    return RequestArrived(time_s, f"{row}/{step}", POOL, row, num_prompt_tokens=9, max_attempts=2)


def test_logs_of_an_interrupted_run_follow_each_other(tmp_path: Path) -> None:
    """The first process was killed while row 1 ran; a second one asked for that again, and went on with row 0."""
    replica = ReplicaAdded(0.0, "local/0", POOL, 1)
    first: list[Event] = [
        replica,
        asked(0.0, 0, "first"),
        asked(0.0, 1, "first"),
        RequestFinished(4.0, "0/first", 9, 0, 5),
        TimerFired(6.0),
    ]
    second: list[Event] = [
        replica,
        asked(0.0, 0, "second"),
        asked(0.0, 1, "first"),
        RequestFailed(1.0, "0/second", True),
        TimerFired(2.0),
        RequestFinished(5.0, "1/first", 9, 0, 5),
        RequestFinished(8.0, "0/second", 9, 0, 5),
    ]
    logs = [write_log(tmp_path, first), write_log(tmp_path, second)]
    run = replayed_run(read_run(logs), plan_of(flow_of("chain", {"max_concurrency": 1})))
    assert run.assumptions[:2] == (
        "attempts that failed in the run are taken not to have been: 1",
        "attempts that were cut off in the run are taken not to have been: 1",
    )
    assert run.makespan_s == 14.0
    rows = list(run.workload.rows())
    assert [row.order for row in rows] == [0, 1]
    assert [(call.node, call.before) for call in rows[0].calls] == [("first", ()), ("second", (0,))]


def test_a_run_without_workers_has_no_placement(tmp_path: Path) -> None:
    """An empty one would be followed, and reviewed once the run lasts."""
    flow = flow_of("chain", {"max_concurrency": 8})
    logs, _ = logs_of(flow, tmp_path)
    assert logged_placing(read_run(logs).placement, plan_of(flow), PlacementFigures({}, {}, {}, {}, "a test")) is None


def test_calls_that_wait_for_a_first_token_wait_for_the_logged_one(tmp_path: Path) -> None:
    """Prompts with a common prefix follow the first of them once its prompt is computed, not once it has ended."""
    options = {"max_concurrency": 8, "max_kv_tokens": 8192, "max_step_tokens": 64, "output_tokens": 100}
    flow = sd.Flow("prefixed")
    flow.engine("local", kind="null", step_time=STEP_TIME, **options)
    flow.input("rows", rows=[{"a": number} for number in range(8)])
    flow.llm("ask", engine="local", prompt=f"{'A long report. ' * 60}{{{{ row.a }}}}")
    flow.output(text="{{ ask.text }}")
    run, simulated, rows_s = replayed(flow, tmp_path, {})
    assert sum(call.first_token_s is not None for row in run.workload.rows() for call in row.calls) >= 1
    assert simulated.makespan_s == pytest.approx(rows_s, rel=0.02)
