"""sundog for Python: build or load a flow, explain it, run it, read what came out.

Owns the public classes and functions. Everything that a run does is behind sundog.session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from pydantic_core import from_json

from sundog.config import Config, read_config
from sundog.errors import RunStopped, suggest
from sundog.flow.builder import FlowBuilder, item, row
from sundog.ir.logical import LogicalPlan
from sundog.runtime.executor import RowEnd
from sundog.runtime.io.outputs import write_output
from sundog.runtime.report import Report
from sundog.runtime.run import Run, RunOptions
from sundog.runtime.store.store import Store
from sundog.session import Choice, Rewriting, Session, load_plan

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Flow", "FlowFile", "Result", "Row", "explain", "item", "load", "row", "run"]

MAX_UNREAD_ROWS = 256


def _check(options: Options | PlanOptions, known: type) -> None:
    """TypeError for a name that no option has."""
    for name in options:
        if name not in known.__annotations__:
            raise TypeError(f"unknown option '{name}': {suggest(name, known.__annotations__)}")


def _config(options: PlanOptions) -> Config:
    state = options.get("state")
    return read_config(None if state is None else Path(state))


def _run_options(options: Options) -> RunOptions:
    output = options.get("output")
    return RunOptions(
        _config(options).state_dir,
        None if output is None else Path(output),
        options.get("fresh", False),
        options.get("max_errors"),
        options.get("retry_failed", False),
        options.get("repeat_unknown_effects", False),
    )


class PlanOptions(TypedDict, total=False):
    """Which rows, and how they are planned; as the options of `sundog run`. `without_rules`: as --no-rule.
    `state`: the state folder."""

    state: str | Path | None
    limit: int | None
    sample: int | None
    seed: int
    policy: str | None
    max_rows_in_flight: int | None
    without_rules: Sequence[str]
    naive: bool
    objective: str | None
    placement: str


class Options(PlanOptions, total=False):
    """How to run; as the options of `sundog run`."""

    output: str | Path | None
    fresh: bool
    max_errors: int | None
    retry_failed: bool
    repeat_unknown_effects: bool


class Row(dict[str, Any]):
    """An output row by column; `row_index` is its number in the input, from 0."""

    def __init__(self, row_index: int, columns: Mapping[str, Any]) -> None:
        super().__init__(columns)
        self.row_index = row_index


class Text(str):
    """Text that a notebook shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Result:
    """What a run gave. The rows stay in the state folder and are read when they are asked for."""

    def __init__(self, state_dir: Path, report: Report, columns: tuple[str, ...]) -> None:
        self.report = report
        self.columns = columns
        self._state_dir = state_dir

    def __iter__(self) -> Iterator[Row]:
        """The output rows in input order, streamed."""
        with closing(Store(self._state_dir)) as store:
            for row_index, body in store.rows(self.report.run_id, "done"):
                yield Row(row_index, from_json(body))

    def __len__(self) -> int:
        return self.report.num_done

    @property
    def errors(self) -> list[dict[str, Any]]:
        """{row, node, cause, attempts} of each failed row, in input order."""
        with closing(Store(self._state_dir)) as store:
            return [{"row": index, **from_json(body)} for index, body in store.rows(self.report.run_id, "failed")]

    def to_list(self) -> list[Row]:
        return list(self)

    def to_arrow(self) -> pa.Table:
        """The rows with the types that a Parquet output would have."""
        from pyarrow import parquet

        with TemporaryDirectory(prefix="sundog-") as folder, closing(Store(self._state_dir)) as store:
            path = Path(folder) / "rows.parquet"
            write_output(path, self.columns, lambda: store.rows(self.report.run_id, "done"))
            return parquet.read_table(path)

    def __repr__(self) -> str:
        return str(self.report)


class Runnable:
    """A flow that can be run. The options of `run`, `arun` and `stream` are those of `sundog run`: output, limit,
    sample, seed, fresh, state, max_errors, retry_failed, repeat_unknown_effects, policy, max_rows_in_flight,
    without_rules, naive, objective, placement.

    As on the command line, the same flow over the same rows to the same output is one run: what was interrupted
    is continued, what is finished is given back without calling anything, unless `fresh=True`.
    """

    base_dir: Path

    def plan(self) -> LogicalPlan:
        """The logical plan; FlowError for whatever is wrong in the flow."""
        raise NotImplementedError

    def run(self, **options: Unpack[Options]) -> Result:
        """Run the flow and wait for it. Works inside a running event loop, as in a notebook: the run has its own
        loop in its own thread. Ctrl-C lets running calls end and raises RunStopped, a second one stops at once."""
        return _Drive().run(self, options)

    async def arun(self, **options: Unpack[Options]) -> Result:
        """Run the flow on the running loop. Opening it reads the inputs, which blocks the loop for that long."""
        return await self._execute(_Drive(), options)

    async def stream(self, **options: Unpack[Options]) -> AsyncGenerator[Row, None]:
        """Output rows as they finish, those of an earlier part of the run first. Leaving early lets running calls
        end and keeps what is finished. A slow reader slows the run down, so that memory stays bounded."""
        _check(options, Options)
        session, run_options = self._session(options), _run_options(options)
        with session.open_run(run_options) as opened:
            for row_index, columns in opened.rows():
                yield Row(row_index, columns)
            async with aclosing(_ends(opened)) as ends:
                async for end in ends:
                    if end.state == "done":
                        yield Row(end.row_index, from_json(end.body))

    def explain(self, **options: Unpack[PlanOptions]) -> Text:
        """The plans, and what a run will take. Reads the inputs, runs no step."""
        _check(options, PlanOptions)
        return Text(self._session(options).explain())

    async def _execute(self, drive: _Drive, options: Options) -> Result:
        _check(options, Options)
        session, run_options = self._session(options), _run_options(options)
        with session.open_run(run_options) as opened:
            drive.begin(opened)
            report = await opened.execute()
        return Result(run_options.state_dir, report, tuple(name for name, _ in session.plan.logical.outputs))

    def _session(self, options: PlanOptions) -> Session:
        return Session(
            self.plan(),
            self.base_dir,
            _config(options),
            choice=Choice(options.get("limit"), options.get("sample"), options.get("seed", 0)),
            rewriting=Rewriting(tuple(options.get("without_rules", ())), options.get("naive", False)),
            policy=options.get("policy"),
            max_rows_in_flight=options.get("max_rows_in_flight"),
            objective=options.get("objective"),
            placement=options.get("placement", "auto"),
        )


class Flow(FlowBuilder, Runnable):
    """A flow built in Python: `flow.input(...)`, `flow.llm(...)`, ..., `flow.output(...)`, then `flow.run()`."""


class FlowFile(Runnable):
    """A flow file; `inputs` reads inputs from other paths, counted from the working directory."""

    def __init__(self, path: str | Path, inputs: Mapping[str, str | Path] | None = None) -> None:
        self.path = Path(path)
        self.base_dir = self.path.parent
        self._inputs = dict(inputs or {})

    def plan(self) -> LogicalPlan:
        return load_plan(self.path, self._inputs)


def load(path: str | Path, inputs: Mapping[str, str | Path] | None = None) -> FlowFile:
    """The flow in a file. FlowError for whatever is wrong in it."""
    flow = FlowFile(path, inputs)
    flow.plan()
    return flow


def run(path: str | Path, inputs: Mapping[str, str | Path] | None = None, **options: Unpack[Options]) -> Result:
    """Run a flow file; see `Runnable.run`."""
    return FlowFile(path, inputs).run(**options)


def explain(path: str | Path, inputs: Mapping[str, str | Path] | None = None, **options: Unpack[PlanOptions]) -> Text:
    """The plans of a flow file."""
    return FlowFile(path, inputs).explain(**options)


class _Drive:
    """One run in a thread of its own, and its two ways to end early."""

    def __init__(self) -> None:
        self._is_stopped = False
        self._begun: tuple[Run, asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def begin(self, opened: Run) -> None:
        """Called on the run's loop, before it executes anything."""
        task = asyncio.current_task()
        assert task is not None
        self._begun = opened, asyncio.get_running_loop(), task
        if self._is_stopped:
            opened.stop()

    def run(self, flow: Runnable, options: Options) -> Result:
        with ThreadPoolExecutor(1, thread_name_prefix="sundog-run") as thread:
            future = thread.submit(asyncio.run, flow._execute(self, options))
            try:
                return future.result()
            except KeyboardInterrupt:
                self._is_stopped = True
                self._on_loop(lambda opened, task: opened.stop())
            try:
                return future.result()
            except KeyboardInterrupt:
                self._on_loop(lambda opened, task: task.cancel())
                raise

    def _on_loop(self, act: Callable[[Run, asyncio.Task[Any]], object]) -> None:
        if self._begun is not None:
            opened, loop, task = self._begun
            loop.call_soon_threadsafe(act, opened, task)


async def _ends(opened: Run) -> AsyncGenerator[RowEnd, None]:
    """Rows as they end, from a run that is executed meanwhile; raises what stopped it."""
    ends: asyncio.Queue[RowEnd | None] = asyncio.Queue(MAX_UNREAD_ROWS)

    async def execute() -> None:
        try:
            await opened.execute(ends.put)
        finally:
            await ends.put(None)

    executing = asyncio.ensure_future(execute())
    end: RowEnd | None = None
    try:
        while (end := await ends.get()) is not None:
            yield end
    except (GeneratorExit, asyncio.CancelledError) as leaving:
        if isinstance(leaving, GeneratorExit):
            opened.stop()
        else:
            executing.cancel()
        while await ends.get() is not None:
            """The rows that were on their way are committed; nobody reads them here."""
        with suppress(RunStopped, asyncio.CancelledError):
            await executing
        raise
    await executing
