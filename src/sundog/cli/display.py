"""How a run's progress is shown: live on a terminal, as lines in a log, as JSON for machines, or not at all.

Owns the forms. Reads runtime.progress, never changes it; everything goes to stderr.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Literal, Protocol

from sundog.cli.console import print_note
from sundog.runtime.progress import Progress, Wait
from sundog.runtime.waits import span

Mode = Literal["terminal", "lines", "json", "quiet"]


class Display(Protocol):
    """`period_s`: how often `show` wants to be called. `note` says one thing. `close` leaves a clean terminal."""

    period_s: float

    def show(self, progress: Progress) -> None: ...
    def note(self, text: str) -> None: ...
    def close(self) -> None: ...


def open_display(*, is_quiet: bool, is_json: bool) -> Display:
    if is_json:
        return JSONDisplay()
    if is_quiet:
        return QuietDisplay()
    return TerminalDisplay() if sys.stderr.isatty() else LineDisplay()


class QuietDisplay:
    period_s = 3600.0

    def show(self, progress: Progress) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing is open."""


class LineDisplay:
    """A line every few seconds, and only when something has changed."""

    period_s = 5.0

    def __init__(self) -> None:
        self._last = ""

    def show(self, progress: Progress) -> None:
        line = describe(progress)
        if line != self._last:
            self._last = line
            print_note(line)

    def note(self, text: str) -> None:
        print_note(text)

    def close(self) -> None:
        """Nothing is open."""


class JSONDisplay:
    """One JSON object a line: {"event": "progress", ...}, and {"event": "note", "text": ...}."""

    period_s = 2.0

    def show(self, progress: Progress) -> None:
        rates = {"tokens_per_s": round(tokens_per_s(progress), 3), "remaining_s": progress.remaining_s}
        print_note(json.dumps({"event": "progress", **asdict(progress), **rates}))

    def note(self, text: str) -> None:
        print_note(json.dumps({"event": "note", "text": text}))

    def close(self) -> None:
        """Nothing is open."""


class TerminalDisplay:
    """A bar and the counters, drawn over themselves."""

    period_s = 0.2

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    def show(self, progress: Progress) -> None:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table.grid(padding=(0, 1))
        table.add_column(width=30)
        table.add_column()
        bar = ProgressBar(total=progress.num_rows, completed=progress.num_ended, width=30)
        table.add_row(bar, describe(progress))
        self._live.update(table, refresh=True)

    def note(self, text: str) -> None:
        self._console.print(text, markup=False)

    def close(self) -> None:
        self._live.stop()


def describe(progress: Progress) -> str:
    """Rows, calls, tokens per second and time left, on one line."""
    total = "" if progress.num_rows is None else f"/{progress.num_rows:,}"
    parts = [f"{progress.num_ended:,}{total} rows"]
    if progress.num_failed:
        parts.append(f"{progress.num_failed:,} failed")
    parts.append(f"{progress.num_asked:,} calls ({progress.num_executed:,} executed)")
    if progress.num_prompt_tokens or progress.num_output_tokens:
        parts.append(f"{tokens_per_s(progress):,.0f} tokens/s")
    if progress.remaining_s is not None:
        parts.append(f"{duration(progress.remaining_s)} left")
    parts += map(describe_wait, progress.waits)
    return ", ".join(parts)


def describe_wait(wait: Wait) -> str:
    """Who waits how long, and why, as in: 3 calls wait 40 s: 'local' asks for it (HTTP 429)."""
    calls = "1 call waits" if wait.num_calls == 1 else f"{wait.num_calls:,} calls wait"
    who = f"'{wait.target}' asks for it" if wait.is_asked_for else f"'{wait.target}' failed"
    return f"{calls} {span(wait.wait_s)}: {who} ({wait.cause})"


def tokens_per_s(progress: Progress) -> float:
    """Prompt and output tokens of this process's executed calls, over its time so far."""
    tokens = progress.num_prompt_tokens + progress.num_output_tokens
    return tokens / progress.elapsed_s if progress.elapsed_s > 0 else 0.0


def duration(seconds: float) -> str:
    """As 42 s, 3 min 05 s, or 2 h 07 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole // 60 % 60:02} min"
