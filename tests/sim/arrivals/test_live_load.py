"""Live loads: rows come at their times whatever runs, and what they take is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sundog.engines.modelled.replica import StepSeconds
from sundog.errors import ConfigError, InputError
from sundog.sim.arrivals.live_rows import at_times, program_row, read_arrivals, trace_workload
from sundog.sim.arrivals.process import ArrivalProcess, read_process
from sundog.sim.arrivals.trace import Trace
from sundog.sim.arrivals.traced import TracedCall, TracedProgram
from sundog.sim.simulate import simulate_load
from sundog.sim.workload import EngineFleet, ModelledEngine, SimulatedCall, SimulatedRow, Workload
from tests.sim.arrivals.test_traces import MOONCAKE_LINES, SWE_AGENT

POOL = "engine:e"
STEPS = StepSeconds(0.5, 0.0, 0.0, 0.0, 0.0)
"""A step takes half a second, whatever is in it."""
FLEET = EngineFleet(ModelledEngine(8, STEPS, 4096, block_tokens=64), 1)


def batch(call_s: float, num_rows: int = 4, max_concurrency: int = 1) -> Workload:
    row = SimulatedRow((SimulatedCall("ask", POOL, call_s=call_s),))
    fleet = EngineFleet(ModelledEngine(max_concurrency), 1)
    return Workload(lambda: iter([row] * num_rows), num_rows, 2, {POOL: fleet})


def test_rows_come_whatever_waits() -> None:
    """Four rows of 10 s come every second to one place: the last waits for the three before it."""
    live = simulate_load(at_times(batch(10.0), read_process("even:1/s").times_s), "fcfs")
    assert (live.num_rows, live.makespan_s) == (4, 40.0)
    wait_s, row_s = live.latencies.pools[POOL].wait_s, live.latencies.row_s
    assert wait_s.total == pytest.approx(0 + 9 + 18 + 27)
    assert row_s.total == pytest.approx(10 + 19 + 28 + 37)
    assert row_s.quantile(1.0) == pytest.approx(37, rel=0.025)
    assert max(look[POOL].num_waiting for look in live.course.looks) == 3, "no window of two rows holds them back"


def test_an_idle_engine_waits_for_rows() -> None:
    live = simulate_load(at_times(batch(0.25), read_process("even:1/s").times_s), "fcfs")
    assert live.makespan_s == pytest.approx(3.25)
    assert live.rows_per_s == pytest.approx(4 / 3.25)
    assert live.latencies.pools[POOL].wait_s.total == 0.0


def test_the_same_rows_in_a_batch_differ_in_their_begin_alone() -> None:
    at_once = simulate_load(at_times(batch(10.0), lambda: iter([0.0] * 4)), "fcfs")
    windowed = simulate_load(batch(10.0), "fcfs")
    assert at_once.makespan_s == windowed.makespan_s == 40.0
    assert at_once.latencies.row_s.total == 10 + 20 + 30 + 40
    assert windowed.latencies.row_s.total == 10 + 20 + 20 + 20, "a row of a batch begins when there is room for it"


def test_the_first_token_is_told() -> None:
    row = SimulatedRow((SimulatedCall("ask", POOL, num_prompt_tokens=10, num_output_tokens=4),))
    live = simulate_load(Workload(lambda: iter([row]), None, None, {POOL: FLEET}), "fcfs")
    times = live.latencies.pools[POOL]
    assert times.first_token_s.total == pytest.approx(0.5)
    assert times.total_s.total == pytest.approx(2.0)


def test_a_trace_is_a_load(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(MOONCAKE_LINES)
    trace = read_arrivals(str(path))
    assert isinstance(trace, Trace)
    live = simulate_load(trace_workload(trace, POOL, FLEET), "fcfs")
    counts = live.pools[POOL].counts
    assert (live.num_rows, counts.num_prompt_tokens, counts.num_output_tokens) == (2, 1612, 12)
    assert counts.num_cached_tokens == 511, "its only block is there, and the last token is always computed"
    assert live.makespan_s == pytest.approx(0.5 + 7 * 0.5)


def test_tools_stand_between_the_calls_of_a_program(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(SWE_AGENT)
    trace = read_arrivals(str(path))
    assert isinstance(trace, Trace)
    live = simulate_load(trace_workload(trace, POOL, FLEET, lambda: iter([3.0, 4.0])), "fcfs")
    # One: 20 steps, a tool of 0.25 s, 30 steps that wait for the step that runs. Two: 40 steps from 4.0 on.
    assert live.latencies.row_s.total == pytest.approx(25.5 + 20)
    with pytest.raises(InputError, match="tells no times"):
        simulate_load(trace_workload(trace, POOL, FLEET), "fcfs")


def test_a_trace_that_breaks_on_the_way_ends_the_simulation(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(MOONCAKE_LINES + "broken\n")
    trace = read_arrivals(str(path))
    assert isinstance(trace, Trace)
    with pytest.raises(InputError, match="no JSON") as caught:
        simulate_load(trace_workload(trace, POOL, FLEET), "fcfs")
    assert caught.value.where == f"{path}:3"


def test_blocks_fit_the_engine() -> None:
    program = TracedProgram((TracedCall(1100, 5, (46, 47)),), 0.0, 1)
    other = TracedProgram((TracedCall(900, 5, (46,)),), 0.0, 2)
    keys, others = (program_row(one, POOL, 512, 64).calls[0].prefix_key for one in (program, other))
    assert (len(keys), len(others)) == (16, 8)
    assert others == keys[:8]
    assert program_row(program, POOL, 512, None).calls[0].prefix_key == ()


def test_a_request_that_fits_into_no_replica_fails_its_row() -> None:
    row = SimulatedRow((SimulatedCall("ask", POOL, num_prompt_tokens=1000, num_output_tokens=100),))
    small = EngineFleet(replace(FLEET.engine, max_kv_tokens=1024), 1)
    live = simulate_load(Workload(lambda: iter([row]), None, None, {POOL: small}), "fcfs")
    assert (live.num_rows, live.num_failed_rows) == (1, 1)


def test_memory_holds_the_rows_that_run() -> None:
    """Rows are taken from where they come only when it is their time."""
    ahead: list[float] = []

    def rows() -> Iterator[SimulatedRow]:
        for number in range(2000):
            ahead.append(number / 10)
            yield SimulatedRow((SimulatedCall("ask", POOL, call_s=0.05),), arrives_s=number / 10)

    live = simulate_load(Workload(rows, None, None, {POOL: EngineFleet(ModelledEngine(1), 1)}), "fcfs")
    assert live.num_rows == 2000
    assert live.latencies.row_s.quantile(1.0) == pytest.approx(0.05, rel=0.025)


def test_a_text_is_a_trace_or_a_process(tmp_path: Path) -> None:
    assert isinstance(read_arrivals("poisson:5/s"), ArrivalProcess)
    with pytest.raises(ConfigError, match="neither a trace file nor an arrival process"):
        read_arrivals(str(tmp_path / "nothing.csv"))
