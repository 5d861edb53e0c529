"""An async function over rows, as a run: what has ended is kept, and a repeated call goes on.

Owns the run and its rows. What the function does is its own affair; its model calls go through the gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from sundog.agents.gateway_thread import gateway_thread
from sundog.agents.redirect import program_url, redirected
from sundog.config import Config, read_config
from sundog.errors import OperatorError, error_text
from sundog.execution.row_way import NodeFailed
from sundog.ir.logical import EngineBlock
from sundog.ir.row_ids import RowRef
from sundog.ir.values.canonical import canonical_json, fingerprint
from sundog.ir.values.normal_form import encode, normal_form
from sundog.serve.engine_file import DEFAULT_ENGINE, load_engines
from sundog.store.runs import RunList, RunRecord
from sundog.store.store import RowState, Store

MAX_IN_FLIGHT = 64
FUNCTION = "function"
"""In the place of a node: the function of the user."""
AgentFunction = Callable[[Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class AgentEnd:
    """The end of one row."""

    #: Its place among the rows, from 0.
    index: int
    #: The value that the function returned, as JSON types; None of a failed row.
    value: Any
    #: A sentence that says why the row failed; None where it did not.
    error: str | None = None


async def map(
    function: AgentFunction,
    rows: Iterable[Any],
    *,
    engines: str | Path | None = None,
    name: str | None = None,
    state: str | Path | None = None,
    max_in_flight: int = MAX_IN_FLIGHT,
) -> list[AgentEnd]:
    """Run an async function over rows of JSON types, as `graph.ainvoke`, and return the ends in the order of the rows.

    Each row is a program: its model calls, made with any client that uses httpx, go through a gateway in this process
    to the engines of the file `engines` (the embedded one without it), where equal greedy calls are made once and
    programs are admitted by their memory. An exception ends its row, and others go on. Rows that have ended are kept:
    a call with the same `name` (the function's own without it) and rows goes on with a run that has not ended.
    """
    config = read_config(state)
    blocks = (DEFAULT_ENGINE,) if engines is None else load_engines(Path(engines))
    taken = [normal_form(row) for row in rows]
    run = _AgentRun(function, name or _name_of(function), taken, blocks, config)
    return await run.ends(max_in_flight)


class _AgentRun:
    def __init__(
        self, function: AgentFunction, name: str, rows: Sequence[Any], blocks: Sequence[EngineBlock], config: Config
    ) -> None:
        self._function = function
        self._name = name
        self._rows = rows
        self._blocks = blocks
        self._config = config

    async def ends(self, max_in_flight: int) -> list[AgentEnd]:
        """Return the ends of all rows, of which those run that have not ended."""
        store = Store(self._config.state_dir)
        try:
            runs = RunList(store, self._config.state_dir)
            engines = [[block.kind, dict(block.options)] for block in self._blocks]
            command = fingerprint(["agents.map", self._name, canonical_json(self._rows).hex(), engines])
            with runs.lock(command), gateway_thread(self._config, self._blocks) as gateway, redirected():
                store.open_writer()
                record = self._record(runs, command)
                await self._run(store, record.run_id, gateway.address, max_in_flight)
                runs.end(record.run_id, "finished", 0.0)
                return self._ended(store, record.run_id)
        finally:
            store.close()

    def _record(self, runs: RunList, command: bytes) -> RunRecord:
        """Return the run that has not ended, else a new one: what the function does may have changed."""
        latest = runs.latest(command)
        if latest is not None and latest.state != "finished":
            return latest
        return runs.start(command, command, self._name, "", len(self._rows), is_fresh=False)

    async def _run(self, store: Store, run_id: str, address: str, max_in_flight: int) -> None:
        places = asyncio.Semaphore(max_in_flight)
        ended = store.finished_rows(run_id, "", ((number,) for number in range(len(self._rows))))
        async with asyncio.TaskGroup() as group:
            for number, row in enumerate(self._rows):
                if (number,) in ended:
                    continue
                await places.acquire()
                task = group.create_task(self._run_row(store, run_id, number, row, address))
                task.add_done_callback(lambda _: places.release())

    async def _run_row(self, store: Store, run_id: str, number: int, row: Any, address: str) -> None:
        program_url.set(f"{address}/s/{run_id}.{number}/v1")
        state, body = await self._end_of(row)
        await store.put_row(run_id, RowRef("", (number,)), state, body, ())

    async def _end_of(self, row: Any) -> tuple[RowState, bytes]:
        try:
            value = await self._function(row)
        except Exception as error:  # the code of the user, which may raise whatever it likes
            return _failed(error_text(error, self._config.secrets.redact))
        try:
            return "done", encode({"value": to_jsonable_python(value)})
        except (PydanticSerializationError, ValueError) as error:
            return _failed(f"its value has no form in JSON: {error}")

    def _ended(self, store: Store, run_id: str) -> list[AgentEnd]:
        done = {row_id[0]: store.decoded(body)["value"] for row_id, body in store.rows(run_id, "", "done")}
        failed = {row_id[0]: store.decoded(body)["cause"] for row_id, body in store.rows(run_id, "", "failed")}
        return [AgentEnd(number, done.get(number), failed.get(number)) for number in range(len(self._rows))]


def _failed(what: str) -> tuple[RowState, bytes]:
    return "failed", NodeFailed(FUNCTION, OperatorError(what)).body({}, None)


def _name_of(function: AgentFunction) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return str(name).replace("<locals>.", "")
