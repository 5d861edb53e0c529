"""Streams that are no plain files: a reader that stops early, a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.flows import write_review

pytestmark = pytest.mark.slow
SUNDOG = [sys.executable, "-m", "sundog"]
COMMANDS = [["explain", "flow.yaml"], ["run", "flow.yaml"], ["run", "flow.yaml", "--output", "-"], ["runs"], ["--help"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_stops_early_is_no_error(tmp_path: Path, command: list[str]) -> None:
    write_review(tmp_path)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stdout:
        ended = subprocess.run([*SUNDOG, *command], cwd=tmp_path, stdout=stdout, stderr=subprocess.PIPE, check=False)
    assert b"Traceback" not in ended.stderr
    assert b"BrokenPipe" not in ended.stderr
    assert ended.returncode == (1 if command == ["--help"] else 0), ended.stderr


def shell(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """`line` in a shell that knows `sundog`."""
    text = f"sundog() {{ '{sys.executable}' -m sundog \"$@\"; }}; {line}"
    return subprocess.run(["bash", "-c", text], cwd=folder, capture_output=True, text=True, check=False)


def test_a_closed_stderr_changes_neither_exit_code_nor_file(tmp_path: Path) -> None:
    write_review(tmp_path)
    ended = shell(tmp_path, "sundog run flow.yaml --output out.jsonl 2>&-")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 12
    assert shell(tmp_path, "sundog run nothing.yaml 2>&-").returncode == 2
    assert shell(tmp_path, "sundog runs <&- 2>&- >&-").returncode == 0


def test_rows_for_a_closed_stdout_are_no_success(tmp_path: Path) -> None:
    write_review(tmp_path)
    for command in ("run flow.yaml --output -", "show last"):
        ended = shell(tmp_path, f"sundog {command} >&-")
        assert ended.returncode == 2
        assert "error: stdout is closed, and the rows would go there" in ended.stderr
        assert shell(tmp_path, "sundog run flow.yaml --output out.jsonl >&-").returncode == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 12


def test_letters_that_a_terminal_lacks_are_no_failure(tmp_path: Path) -> None:
    write_review(tmp_path)
    for command in ("explain flow.yaml", "run flow.yaml"):
        ended = shell(tmp_path, f"PYTHONIOENCODING=latin-1 sundog {command}")
        assert (ended.returncode, "bug" in ended.stderr) == (0, False)
    assert "??? engines" in shell(tmp_path, "PYTHONIOENCODING=latin-1 sundog explain flow.yaml").stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("options", ["--json", "--output -", ""])
def test_a_full_disk_under_stdout_is_told_as_such(tmp_path: Path, options: str) -> None:
    write_review(tmp_path)
    ended = shell(tmp_path, f"sundog run flow.yaml {options} >/dev/full")
    assert ended.returncode == 1
    assert "error: cannot write to stdout: No space left on device\n  make room" in ended.stderr
    assert "bug" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
    assert shell(tmp_path, "sundog run flow.yaml 2>/dev/full").returncode == 0


def test_a_terminal_gets_a_bar_and_its_cursor_back(tmp_path: Path) -> None:
    write_review(tmp_path)
    flow = (tmp_path / "flow.yaml").read_text()
    (tmp_path / "flow.yaml").write_text(flow.replace('{kind: "null"}', '{kind: "null", latency_s: 0.3}'))
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    with subprocess.Popen(
        [*SUNDOG, "run", "flow.yaml"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        seen = _read_all(ours)
        assert process.stdout is not None
        report = process.stdout.read()
    assert process.returncode == 0
    assert " of 12 rows" in seen
    assert "of ≈" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l"), "the cursor is shown again"
    assert report.startswith(b"run review-"), "no styles where stdout is no terminal"


def _read_all(descriptor: int) -> str:
    seen = b""
    try:
        while piece := os.read(descriptor, 65536):
            seen += piece
    except OSError:
        """The other end is closed."""
    finally:
        os.close(descriptor)
    return seen.decode()
