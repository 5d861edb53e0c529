"""Rows of live loads: those of a trace, and any rows at the times of an arrival process.

Owns the way from traced programs to rows, and when rows come. Never simulates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from sundog.sim.arrivals.process import ArrivalProcess, read_process
from sundog.sim.arrivals.trace import Trace, open_trace
from sundog.sim.arrivals.traced import TracedProgram
from sundog.sim.workload import EngineFleet, SimulatedCall, SimulatedRow, Workload
from sundog.tokens import DEFAULT_OUTPUT_TOKENS

TRACED_STEP = "call"
TOOL_STEP = "tool"
TOOL_POOL = "tools of the trace"
MAX_TOOLS = 1_000_000
"""The tools of a trace waited for nobody when it was made: their seconds are those of a call that runs."""


def read_arrivals(text: str) -> ArrivalProcess | Trace:
    """Return what `text` means: a trace where there is such a file, else an arrival process. InputError or ConfigError
    where it is neither."""
    path = Path(text)
    return open_trace(path) if path.is_file() else read_process(text)


def at_times(workload: Workload, times_s: Callable[[], Iterator[float]]) -> Workload:
    """Return the workload with its rows at these times in place of a window; the shorter of both ends it."""

    def rows() -> Iterator[SimulatedRow]:
        for time_s, row in zip(times_s(), workload.rows(), strict=False):
            yield replace(row, arrives_s=time_s)

    return replace(workload, rows=rows, max_rows_in_flight=None, tables=())


def trace_workload(
    trace: Trace, pool: str, fleet: EngineFleet, times_s: Callable[[], Iterator[float]] | None = None
) -> Workload:
    """Return the load of a trace on one engine: each request a row, or each program. `times_s`: when they come, in
    place of the trace's own times; needed where it tells none, InputError without."""
    block_tokens = fleet.engine.block_tokens

    def rows() -> Iterator[SimulatedRow]:
        for program in trace.programs():
            row = program_row(program, pool, trace.form.block_tokens, block_tokens)
            yield row if times_s is not None else replace(row, arrives_s=trace.time_of(program))

    workload = Workload(rows, None, None, {pool: fleet}, {TOOL_POOL: MAX_TOOLS})
    return workload if times_s is None else at_times(workload, times_s)


def program_row(
    program: TracedProgram, pool: str, traced_block_tokens: int | None, block_tokens: int | None
) -> SimulatedRow:
    """Return a program as a row. `block_tokens`: of the engine's blocks, None where it keeps no prefixes."""
    calls: list[SimulatedCall] = []
    for depth, call in enumerate(program.calls):
        keys: tuple[int, ...] = ()
        if traced_block_tokens is not None and block_tokens is not None:
            keys = rebased(call.blocks, traced_block_tokens, block_tokens, call.num_prompt_tokens)
        calls.append(
            SimulatedCall(
                TRACED_STEP,
                pool,
                _after(calls),
                None,
                depth,
                call.num_prompt_tokens,
                call.num_output_tokens,
                DEFAULT_OUTPUT_TOKENS,
                keys,
            )
        )
        if call.tool_s is not None:
            calls.append(SimulatedCall(TOOL_STEP, TOOL_POOL, _after(calls), depth=depth, call_s=call.tool_s))
    return SimulatedRow(tuple(calls))


def _after(calls: list[SimulatedCall]) -> tuple[int, ...]:
    return (len(calls) - 1,) if calls else ()


def rebased(keys: tuple[int, ...], from_tokens: int, to_tokens: int, num_tokens: int) -> tuple[int, ...]:
    """Return the keys of full blocks of `to_tokens` for those of `from_tokens`; a block that none covers has no key.

    >>> rebased((7, 8), 512, 512, 1100), len(rebased((7, 8), 512, 64, 1100)), len(rebased((7, 8), 512, 1024, 1100))
    ((7, 8), 16, 1)
    """
    if from_tokens == to_tokens:
        return keys
    num_blocks = min(len(keys) * from_tokens, num_tokens) // to_tokens
    # A block is known by all text up to its end, so the key of the last one that it reaches into tells it.
    return tuple(hash((keys[((number + 1) * to_tokens - 1) // from_tokens], number)) for number in range(num_blocks))
