"""The forms of progress."""

from __future__ import annotations

import json

import pytest

from sundog.cli.display import JSONDisplay, LineDisplay, describe, duration
from sundog.runtime.progress import Progress

HALFWAY = Progress(
    num_rows=2000,
    num_done=990,
    num_failed=10,
    num_asked=3000,
    num_executed=1200,
    num_prompt_tokens=9000,
    num_output_tokens=1000,
    elapsed_s=100.0,
)


def test_a_line_tells_rows_calls_rate_and_time_left() -> None:
    assert describe(HALFWAY) == (
        "1,000/2,000 rows, 10 failed, 3,000 calls (1,200 executed), 100 tokens/s, 1 min 40 s left"
    )


def test_what_is_not_known_is_left_out() -> None:
    assert describe(Progress()) == "0 rows, 0 calls (0 executed)"


def test_rows_of_an_earlier_process_do_not_speed_up_the_estimate() -> None:
    progress = Progress(num_rows=100, num_done=60, num_restored=50, elapsed_s=10.0)
    assert "40 s left" in describe(progress)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7620, "2 h 07 min")]
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_lines_repeat_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    display = LineDisplay()
    display.show(HALFWAY)
    display.show(HALFWAY)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


def test_json_lines_carry_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    display = JSONDisplay()
    display.show(HALFWAY)
    display.note("stopping")
    progress, note = map(json.loads, capsys.readouterr().err.splitlines())
    assert (progress["event"], progress["num_done"], progress["tokens_per_s"]) == ("progress", 990, 100.0)
    assert progress["remaining_s"] == 100.0
    assert note == {"event": "note", "text": "stopping"}
