"""The forms in which a run's progress is shown: live on a terminal or in a notebook, as lines in a log, as JSON for
machines, or not.

Owns the forms. Reads runtime.figures.progress and forecast, never changes them; all but a notebook's goes to stderr.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from html import escape
from importlib import import_module
from typing import Any, Protocol

from sundog.host.beside import beside
from sundog.host.waits import Wait, span
from sundog.runtime.figures.forecast import Forecast, Forecaster
from sundog.runtime.figures.progress import Progress

BAR_CHARS = 30
LOOK_S = 0.5
Say = Callable[[str], None]


class Display(Protocol):
    """This class shows a run: `show` where it stands, `note` one thing; `close` leaves a clean terminal."""

    #: Seconds between two calls of `show`.
    period_s: float

    def show(self, progress: Progress, forecast: Forecast) -> None: ...
    def note(self, text: str) -> None: ...
    def close(self) -> None: ...


def open_live_display(is_wanted: bool | None = None) -> Display:
    """Return the display for a call in Python: live in a notebook and on a terminal, elsewhere lines where it
    `is_wanted`; quiet where it is not. None: where somebody looks."""
    if is_wanted is False:
        return QuietDisplay()
    if is_notebook():
        return NotebookDisplay()
    if sys.stderr is not None and sys.stderr.isatty():
        return TerminalDisplay()
    return LineDisplay(_to_stderr) if is_wanted else QuietDisplay()


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook. IPython is asked only where it runs already."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


@asynccontextmanager
async def watching(progress: Progress, display: Display, plan_calls: Callable[[], float]) -> AsyncIterator[None]:
    """Show the progress of a run while the block executes it, and once more when it has ended."""
    async with beside(watch(progress, display, plan_calls)):
        yield


async def watch(progress: Progress, display: Display, plan_calls: Callable[[], float]) -> None:
    """Show the progress of a run until cancelled. `plan_calls`: how many calls the run is expected to execute; asked
    in a thread of its own, and only of runs that last longer than a period."""
    forecaster = Forecaster()

    async def wait() -> None:
        num_looks = max(1, math.ceil(display.period_s / LOOK_S)) if display.period_s < QuietDisplay.period_s else 1
        for _ in range(num_looks):
            await asyncio.sleep(display.period_s / num_looks)
            forecaster.look(progress)

    await wait()
    try:
        forecaster.num_planned = await asyncio.to_thread(plan_calls)
    except Exception as error:
        # The rows do not need it: a picture must not end a run.
        display.note(f"no forecast of the number of calls: {type(error).__name__}: {error}")
    try:
        while True:
            display.show(progress, forecaster.at(progress))
            await wait()
    finally:
        # The end of the run is left on the screen.
        display.show(progress, forecaster.at(progress))


class QuietDisplay:
    """This display shows nothing."""

    period_s = 3600.0

    def show(self, progress: Progress, forecast: Forecast) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing: nothing is open."""


class LineDisplay:
    """A line every few seconds, and only when something has changed."""

    period_s = 5.0

    def __init__(self, say: Say) -> None:
        self._say = say
        self._last = ""

    def show(self, progress: Progress, forecast: Forecast) -> None:
        # The time left changes where nothing else does.
        done = describe_progress(progress, Forecast(forecast.num_calls))
        if done != self._last:
            self._last = done
            self._say(describe_progress(progress, forecast))

    def note(self, text: str) -> None:
        self._say(text)

    def close(self) -> None:
        """Do nothing: nothing is open."""


class JSONDisplay:
    """One JSON object a line: {"event": "progress", ...}, and {"event": "note", "text": ...}."""

    period_s = 2.0

    def __init__(self, say: Say) -> None:
        self._say = say

    def show(self, progress: Progress, forecast: Forecast) -> None:
        calls = None if forecast.num_calls is None else round(forecast.num_calls)
        rates = {"tokens_per_s": round(tokens_per_s(progress), 3), "remaining_s": forecast.remaining_s}
        self._say(json.dumps({"event": "progress", **asdict(progress), "num_expected_executed": calls, **rates}))

    def note(self, text: str) -> None:
        self._say(json.dumps({"event": "note", "text": text}))

    def close(self) -> None:
        """Do nothing: nothing is open."""


class TerminalDisplay:
    """A bar and the counters, drawn over themselves."""

    period_s = 0.2

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = console or Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    def show(self, progress: Progress, forecast: Forecast) -> None:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table.grid(padding=(0, 1))
        table.add_column(width=BAR_CHARS)
        table.add_column()
        bar = ProgressBar(total=1.0, completed=forecast.share or 0.0, width=BAR_CHARS)
        table.add_row(bar, describe_progress(progress, forecast))
        self._live.update(table, refresh=True)

    def note(self, text: str) -> None:
        self._console.print(text, markup=False)

    def close(self) -> None:
        self._live.stop()


class NotebookDisplay:
    """A bar and the counters as HTML in the cell that runs; the last one stays."""

    period_s = 0.5

    def __init__(self) -> None:
        # Asked of the kernel, which has it: sundog does not depend on IPython.
        display = import_module("IPython.display").display

        self._notes: list[str] = []
        self._bar = ""
        self._handle = display({"text/plain": "", "text/html": ""}, raw=True, display_id=True)

    def show(self, progress: Progress, forecast: Forecast) -> None:
        text = describe_progress(progress, forecast)
        bar = f'<progress value="{forecast.share or 0.0:.3f}" max="1"></progress> {escape(text)}'
        self._draw(text, bar)

    def note(self, text: str) -> None:
        self._notes.append(text)
        self._draw(text, self._bar)

    def close(self) -> None:
        """The cell keeps what it shows."""

    def _draw(self, text: str, bar: str) -> None:
        self._bar = bar
        html = "<br>".join([*map(escape, self._notes), bar])
        self._handle.update({"text/plain": text, "text/html": html}, raw=True)


def describe_progress(progress: Progress, forecast: Forecast) -> str:
    """Return rows, executed calls of those expected, tokens per second, time left and waits, on one line."""
    total = "" if progress.num_rows is None else f" of {progress.num_rows:,}"
    parts = [f"{progress.num_ended:,}{total} rows"]
    if progress.num_failed:
        parts.append(f"{progress.num_failed:,} failed")
    if progress.num_not_run:
        parts.append(f"{progress.num_not_run:,} not run because of that")
    num_executed = progress.num_restored_executed + progress.num_executed
    expected = "" if forecast.num_calls is None else f" of ≈{round(forecast.num_calls):,}"
    parts.append(f"{num_executed:,}{expected} calls")
    if progress.num_prompt_tokens or progress.num_output_tokens:
        parts.append(f"{tokens_per_s(progress):,.0f} tokens/s")
    if forecast.remaining_s is not None:
        parts.append(f"{duration(forecast.remaining_s)} left")
    parts += map(describe_wait, progress.waits)
    return ", ".join(parts)


def describe_wait(wait: Wait) -> str:
    """Say who waits how long, and why, as in: 3 calls wait 40 s: 'local' asks for it (HTTP 429)."""
    calls = "1 call waits" if wait.num_calls == 1 else f"{wait.num_calls:,} calls wait"
    if wait.is_for_server:
        return f"{calls} for a server of '{wait.target}', {span(wait.wait_s)} so far ({wait.cause})"
    who = f"'{wait.target}' asks for it" if wait.is_asked_for else f"'{wait.target}' failed"
    return f"{calls} {span(wait.wait_s)}: {who} ({wait.cause})"


def tokens_per_s(progress: Progress) -> float:
    """Return the prompt and output tokens of this process's executed calls, over its time so far."""
    tokens = progress.num_prompt_tokens + progress.num_output_tokens
    return tokens / progress.elapsed_s if progress.elapsed_s > 0 else 0.0


def duration(seconds: float) -> str:
    """Return a time as 42 s, 3 min 05 s, or 2 h 07 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole // 60 % 60:02} min"
