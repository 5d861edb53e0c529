"""sundog for Python: build or load a flow, explain it, run it, read what came out.

Owns the public classes and functions. Everything that a run does is behind sundog.session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, get_args

from pydantic_core import from_json

from sundog.config import Config, read_config
from sundog.errors import RunStopped, suggest
from sundog.flow.builder import FlowBuilder, item, row
from sundog.flow.prompt_file import prompt_file
from sundog.ir.logical import LogicalPlan
from sundog.result import NotebookText, Page, Result, Row
from sundog.runtime.calls.guard import run_loop
from sundog.runtime.executor import RowEnd
from sundog.runtime.figures.report import Report
from sundog.runtime.run import Run, RunOptions
from sundog.session import Choice, Rewriting, Session, load_plan

if TYPE_CHECKING:
    from sundog.display import Display

__all__ = ["Flow", "FlowFile", "Result", "Row", "explain", "item", "load", "prompt_file", "row", "run"]

MAX_UNREAD_ROWS = 256
ExplainForm = Literal["text", "json", "html"]


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
        options.get("repeat_effects", False),
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
    repeat_effects: bool


class WatchedOptions(Options, total=False):
    """`progress`: show how the run goes; None does on a terminal and in a notebook."""

    progress: bool | None


class Runnable:
    """A flow that can be run. The options of `run`, `arun` and `stream` are those of `sundog run`: output, limit,
    sample, seed, fresh, state, max_errors, retry_failed, repeat_unknown_effects, repeat_effects, policy,
    max_rows_in_flight, without_rules, naive, objective, placement. `run` and `arun` show how the run goes on a terminal
    and in a notebook, unless `progress=False`.

    As on the command line, the same flow over the same rows to the same output is one run: what was interrupted
    is continued, what is finished is given back without calling anything, unless `fresh=True`.
    """

    base_dir: Path

    def plan(self) -> LogicalPlan:
        """The logical plan; FlowError for whatever is wrong in the flow."""
        raise NotImplementedError

    def run(self, **options: Unpack[WatchedOptions]) -> Result:
        """Run the flow and wait for it. Works inside a running event loop, as in a notebook: the run has its own
        loop in its own thread. Ctrl-C, or a notebook's stop button, lets running calls end and raises RunStopped, a
        second one stops at once."""
        return _Drive(_display(options)).run(self, options)

    async def arun(self, **options: Unpack[WatchedOptions]) -> Result:
        """Run the flow on the running loop. Opening it reads the inputs, which blocks the loop for that long."""
        return await self._execute(_Drive(_display(options)), options)

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

    def explain(self, format: ExplainForm = "text", **options: Unpack[PlanOptions]) -> NotebookText:
        """The plans, and what a run will take: as text, as JSON text, or as a page of HTML, which a notebook shows.
        Reads the inputs, runs no step."""
        if format not in get_args(ExplainForm):
            raise TypeError(f"format must be one of: {', '.join(get_args(ExplainForm))}; not {format!r}")
        _check(options, PlanOptions)
        from sundog.explanation import Explanation

        explanation = Explanation(self._session(options))
        shown = explanation.shown(explanation.document(), format)
        return Page(shown) if format == "html" else NotebookText(shown)

    async def _execute(self, drive: _Drive, options: WatchedOptions) -> Result:
        with closing(drive):
            _check(options, WatchedOptions)
            session, run_options = self._session(options), _run_options(options)
            with session.open_run(run_options) as opened:
                report = await drive.execute(session, opened)
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


def run(path: str | Path, inputs: Mapping[str, str | Path] | None = None, **options: Unpack[WatchedOptions]) -> Result:
    """Run a flow file; see `Runnable.run`."""
    return FlowFile(path, inputs).run(**options)


def explain(
    path: str | Path,
    inputs: Mapping[str, str | Path] | None = None,
    format: ExplainForm = "text",
    **options: Unpack[PlanOptions],
) -> NotebookText:
    """The plans of a flow file; see `Runnable.explain`."""
    return FlowFile(path, inputs).explain(format, **options)


def _display(options: WatchedOptions) -> Display:
    from sundog.display import open_live_display

    return open_live_display(options.get("progress"))


class _Drive:
    """One run, how it is shown, and its two ways to end early."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._is_stopped = False
        self._begun: tuple[Run, asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    async def execute(self, session: Session, opened: Run) -> Report:
        """Execute on the running loop, and show how it goes until that has ended."""
        from sundog.display import watch

        self._begin(opened)
        for finding in opened.findings:
            self._display.note(f"warning: {finding}")
        plan_calls = partial(session.planned_calls, opened.record)
        watching = asyncio.ensure_future(watch(opened.progress, self._display, plan_calls))
        try:
            return await opened.execute()
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    def close(self) -> None:
        """Leave a clean terminal, also where the run was refused before it began."""
        self._display.close()

    def _begin(self, opened: Run) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._begun = opened, asyncio.get_running_loop(), task
        if self._is_stopped:
            opened.stop()

    def run(self, flow: Runnable, options: WatchedOptions) -> Result:
        """Execute in a thread of its own; an interrupt of this thread stops it."""
        with ThreadPoolExecutor(1, thread_name_prefix="sundog-run") as thread:
            future = thread.submit(run_loop, flow._execute(self, options))
            try:
                return future.result()
            except KeyboardInterrupt:
                self._is_stopped = True
                self._display.note(
                    "stopping: calls that run are finished and kept; interrupt once more to stop at once"
                )
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
