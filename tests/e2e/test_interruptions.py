"""Signals, kills and two processes at once: nothing finished is lost, nothing is done twice."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sundog.store.schema import STORE_FILE
from tests.e2e.counting_server import CountingServer
from tests.e2e.processes import NUM_AT_ONCE, WAIT_S, finish, read_until, run, start, write_sending

pytestmark = pytest.mark.slow

NUM_ROWS = 40
COMMAND = ("run", "flow.yaml", "--output", "out.jsonl")
COUNT_RESULTS = "select count(*) from results where node = ?"
STOPPING = "stopping: calls that run are finished and kept"


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as server:
        yield server


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def undisturbed(folder: Path, origin: str, method: str) -> bytes:
    """The output of the same flow in a folder of its own."""
    folder.mkdir()
    write_sending(folder, origin, method, NUM_ROWS)
    code, _, stderr = run(folder, *COMMAND)
    assert code == 0, stderr
    return (folder / "out.jsonl").read_bytes()


def wait_for_results(folder: Path, node: str, num_results: int) -> None:
    """Wait until the state folder holds `num_results` results of a node: answers are committed after they have come."""
    give_up_s = time.monotonic() + WAIT_S
    with closing(sqlite3.connect(folder / ".sundog" / STORE_FILE)) as connection:
        while connection.execute(COUNT_RESULTS, (node,)).fetchone() != (num_results,):
            assert time.monotonic() < give_up_s, f"no {num_results} results of {node}"
            time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_drains_and_the_command_continues(
    tmp_path: Path, server: CountingServer, number: signal.Signals, code: int
) -> None:
    expected = undisturbed(tmp_path / "calm", server.origin, "POST")
    server.asked.clear()
    server.shut_gate()
    write_sending(tmp_path, server.origin, "POST", NUM_ROWS)
    process = start(tmp_path, *COMMAND)
    server.wait_for(NUM_AT_ONCE)
    process.send_signal(number)
    read_until(process, STOPPING)
    server.open_gate()
    exit_code, stdout, stderr = finish(process)
    assert (exit_code, stdout) == (code, "")
    assert f"interrupted: 0 of {NUM_ROWS} rows have ended; every finished call is kept" in stderr
    assert "continue with: sundog run flow.yaml --output out.jsonl" in stderr
    assert len(server.asked) == NUM_AT_ONCE, "no call starts after the signal"
    assert not (tmp_path / "out.jsonl").exists()
    exit_code, _, stderr = run(tmp_path, *COMMAND)
    assert exit_code == 0, stderr
    assert f"continued, 0 of {NUM_ROWS} rows have ended before" in stderr
    assert server.by_row == dict.fromkeys(range(NUM_ROWS), 1)
    assert (tmp_path / "out.jsonl").read_bytes() == expected


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_drops_calls_that_only_wait_for_their_next_attempt(
    tmp_path: Path, server: CountingServer, number: signal.Signals, code: int
) -> None:
    server.retry_after_s = 300
    write_sending(tmp_path, server.origin, "GET", 3)
    process = start(tmp_path, *COMMAND)
    read_until(process, "3 calls wait 5 min: '")
    process.send_signal(number)
    exit_code, _, stderr = finish(process)
    assert exit_code == code
    assert "interrupted: 0 of 3 rows have ended" in stderr
    server.retry_after_s = None
    exit_code, _, stderr = run(tmp_path, *COMMAND)
    assert exit_code == 0, stderr
    assert server.by_row == dict.fromkeys(range(3), 2)


@pytest.mark.parametrize("how", ["second signal", "kill"])
def test_an_effect_without_an_outcome_is_reported_and_not_repeated(
    tmp_path: Path, server: CountingServer, how: str
) -> None:
    expected = undisturbed(tmp_path / "calm", server.origin, "POST")
    server.asked.clear()
    server.shut_gate()
    write_sending(tmp_path, server.origin, "POST", NUM_ROWS)
    process = start(tmp_path, *COMMAND)
    server.wait_for(NUM_AT_ONCE)
    if how == "kill":
        process.kill()
        assert finish(process)[0] == -signal.SIGKILL
    else:
        process.send_signal(signal.SIGINT)
        read_until(process, STOPPING)
        process.send_signal(signal.SIGINT)
        assert finish(process)[0] == 130
    server.open_gate()
    interrupted = {one.row: one.key for one in server.asked}
    assert len(interrupted) == NUM_AT_ONCE

    assert run(tmp_path, *COMMAND)[0] == 1
    assert server.by_row == dict.fromkeys(range(NUM_ROWS), 1), "at most once for each row"
    errors = lines(tmp_path / "out.jsonl.errors.jsonl")
    assert [error["row"] for error in errors] == sorted(interrupted)
    assert all(interrupted[error["row"]] in error["cause"] for error in errors), "the key is named"

    assert run(tmp_path, *COMMAND, "--retry-failed")[0] == 1
    assert len(server.asked) == NUM_ROWS, "trying failed rows again is not yet a wish to repeat effects"

    assert run(tmp_path, *COMMAND, "--retry-failed", "--repeat-unknown-effects")[0] == 0
    repeated = {one.row: one.key for one in server.asked[NUM_ROWS:]}
    assert repeated == interrupted, "the same keys, so that the other side can tell"
    assert (tmp_path / "out.jsonl").read_bytes() == expected
    assert not (tmp_path / "out.jsonl.errors.jsonl").exists()


def test_a_killed_run_continues_to_the_same_bytes(tmp_path: Path, server: CountingServer) -> None:
    expected = undisturbed(tmp_path / "calm", server.origin, "GET")
    server.asked.clear()
    server.shut_gate()
    write_sending(tmp_path, server.origin, "GET", NUM_ROWS)
    num_kept = 0
    for num_more in (0, 1, 11, 12):
        num_before = len(server.asked)
        server.open_for_next(num_more)
        process = start(tmp_path, *COMMAND)
        server.wait_for(num_before + num_more + NUM_AT_ONCE)
        num_kept += num_more
        wait_for_results(tmp_path, "send", num_kept)
        process.kill()
        assert finish(process)[0] == -signal.SIGKILL
    server.open_gate()
    code, _, stderr = run(tmp_path, *COMMAND)
    assert code == 0, stderr
    assert (tmp_path / "out.jsonl").read_bytes() == expected
    assert len(server.asked) == NUM_ROWS + 4 * NUM_AT_ONCE, "only what was in flight is asked again"
    found = json.loads(run(tmp_path, "runs", "--json")[1])
    assert [(one["state"], one["done"]) for one in found] == [("finished", NUM_ROWS)]
    assert run(tmp_path, "trace", found[0]["run"])[0] == 0


def test_two_processes_on_one_run_are_refused(tmp_path: Path, server: CountingServer) -> None:
    server.shut_gate()
    write_sending(tmp_path, server.origin, "GET", NUM_ROWS)
    process = start(tmp_path, *COMMAND)
    server.wait_for(NUM_AT_ONCE)
    code, _, stderr = run(tmp_path, *COMMAND)
    assert code == 2
    assert f"error: another process (pid {process.pid}) is working on this run" in stderr
    assert json.loads(run(tmp_path, "runs", "--json")[1])[0]["state"] == "running"
    other = run(tmp_path, "run", "flow.yaml", "--output", "other.jsonl", "--limit", "0")
    assert other[0] == 2, "usage"
    server.open_gate()
    assert finish(process)[0] == 0
    assert server.by_row == dict.fromkeys(range(NUM_ROWS), 1)


def test_without_a_terminal_there_are_plain_lines(tmp_path: Path, server: CountingServer) -> None:
    write_sending(tmp_path, server.origin, "GET", 3)
    code, stdout, stderr = run(tmp_path, "run", "flow.yaml")
    assert code == 0
    assert "\x1b" not in stdout + stderr
    assert re.fullmatch(r"run sent-\w{8}: new, 3 rows\n", stderr)
