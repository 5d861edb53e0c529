"""The forms of progress, drawn to texts."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from sundog.display import (
    JSONDisplay,
    LineDisplay,
    NotebookDisplay,
    QuietDisplay,
    TerminalDisplay,
    describe_progress,
    duration,
    open_live_display,
    watch,
)
from sundog.host.waits import Wait
from sundog.runtime.figures.forecast import Forecast
from sundog.runtime.figures.progress import Progress

HALFWAY = Progress(
    num_rows=2000,
    num_restored_executed=100,
    num_done=990,
    num_failed=10,
    num_asked=3000,
    num_executed=1200,
    num_prompt_tokens=9000,
    num_output_tokens=1000,
    elapsed_s=100.0,
)
SOON = Forecast(num_calls=2600.4, share=0.5, remaining_s=100.0)
LINE = "1,000 of 2,000 rows, 10 failed, 1,300 of ≈2,600 calls, 100 tokens/s, 1 min 40 s left"


def test_a_line_tells_rows_calls_rate_and_time_left() -> None:
    assert describe_progress(HALFWAY, SOON) == LINE


def test_what_is_not_known_is_left_out() -> None:
    assert describe_progress(Progress(), Forecast()) == "0 rows, 0 calls"


def test_a_line_tells_waits() -> None:
    progress = Progress(num_rows=3, waits=(Wait(2, 40.0, "local", "HTTP 429", is_asked_for=True),))
    assert describe_progress(progress, Forecast()) == (
        "0 of 3 rows, 0 calls, 2 calls wait 40 s: 'local' asks for it (HTTP 429)"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7620, "2 h 07 min")]
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_lines_repeat_nothing() -> None:
    said: list[str] = []
    display = LineDisplay(said.append)
    display.show(HALFWAY, SOON)
    display.show(HALFWAY, Forecast(num_calls=2600.4, share=0.5, remaining_s=95.0))
    assert said == [LINE]


def test_json_lines_carry_every_number() -> None:
    said: list[str] = []
    display = JSONDisplay(said.append)
    display.show(HALFWAY, SOON)
    display.note("stopping")
    progress, note = map(json.loads, said)
    assert (progress["event"], progress["num_done"], progress["tokens_per_s"]) == ("progress", 990, 100.0)
    assert (progress["num_expected_executed"], progress["remaining_s"]) == (2600, 100.0)
    assert note == {"event": "note", "text": "stopping"}


def test_a_terminal_draws_a_bar_of_the_work() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=130, color_system=None, legacy_windows=False)
    display = TerminalDisplay(console)
    display.show(HALFWAY, SOON)
    display.note("stopping [bold]")
    display.close()
    drawn = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO above
    assert f"{'━' * 15}{' ' * 15} {LINE}" in drawn.replace("╸", " ").replace("╺", " ")
    assert "stopping [bold]" in drawn


class _Handle:
    def __init__(self, shown: list[dict[str, str]]) -> None:
        self._shown = shown

    def update(self, data: dict[str, str], raw: bool) -> None:
        self._shown.append(data)


def test_a_notebook_draws_into_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, str]] = []

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> _Handle:
        return _Handle(shown)

    fake: Any = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1), display=SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", fake.display)
    drawn = open_live_display()
    assert isinstance(drawn, NotebookDisplay)
    drawn.note("run <a>: new")
    drawn.show(HALFWAY, SOON)
    assert shown[-1] == {
        "text/plain": LINE,
        "text/html": f'run &lt;a&gt;: new<br><progress value="0.500" max="1"></progress> {LINE}',
    }


def test_a_call_in_python_is_quiet_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(open_live_display(), QuietDisplay)
    assert isinstance(open_live_display(is_wanted=False), QuietDisplay)
    assert capsys.readouterr() == ("", "")
    open_live_display(is_wanted=True).show(HALFWAY, SOON)
    assert capsys.readouterr() == ("", f"{LINE}\n")


def test_who_wants_no_progress_gets_none_in_a_notebook_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.display.is_notebook", lambda: True)
    assert isinstance(open_live_display(is_wanted=False), QuietDisplay)


class _Kept(QuietDisplay):
    period_s = 0.0

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.forecasts: list[Forecast] = []
        self.is_seen = asyncio.Event()

    def show(self, progress: Progress, forecast: Forecast) -> None:
        self.forecasts.append(forecast)
        self.is_seen.set()

    def note(self, text: str) -> None:
        self.notes.append(text)


async def _watched(display: _Kept, plan_calls: Any) -> None:
    watching = asyncio.ensure_future(watch(Progress(num_rows=10), display, plan_calls))
    await display.is_seen.wait()
    watching.cancel()


def test_the_plan_tells_how_many_calls_there_will_be() -> None:
    display = _Kept()
    asyncio.run(_watched(display, lambda: 40.0))
    assert display.forecasts[0] == Forecast(40.0, 0.0, None)
    assert display.notes == []


def test_a_plan_that_cannot_be_estimated_stops_nothing() -> None:
    display = _Kept()
    asyncio.run(_watched(display, lambda: 1 / 0))
    assert display.forecasts[0] == Forecast(None, 0.0, None)
    assert display.notes == ["no forecast of the number of calls: ZeroDivisionError: division by zero"]


def test_what_is_left_on_the_screen_is_how_it_ended() -> None:
    async def ended() -> list[Forecast]:
        progress, display = Progress(num_rows=10), _Kept()
        watching = asyncio.ensure_future(watch(progress, display, lambda: 40.0))
        await display.is_seen.wait()
        progress.num_done = progress.num_executed = progress.num_asked_by_ended = 10
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        return display.forecasts

    first, *_, last = asyncio.run(ended())
    assert (first.num_calls, first.share) == (40.0, 0.0)
    assert (last.num_calls, last.share) == (10.0, 1.0)
