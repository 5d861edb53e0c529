"""A run whose state lies at a URL goes on on another machine: the disk of the first one is lost, or it stands still."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.counting_server import CountingServer
from tests.e2e.processes import NUM_AT_ONCE, finish, kill_after, run, start, write_sending
from tests.store.segments.storages import s3_server

pytestmark = pytest.mark.slow

NUM_ROWS = 40


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as server:
        yield server


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, ...]]:
    with s3_server(monkeypatch) as bucket:
        yield ("run", "flow.yaml", "--output", "out.jsonl", "--state", f"{bucket}/sundog")


def on_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """From here on commands have the disk of another machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))


@pytest.fixture
def first(
    tmp_path: Path, server: CountingServer, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> Iterator[subprocess.Popen[str]]:
    """A process that has begun the run on a machine, and waits for its first answers."""
    write_sending(tmp_path, server.origin, "POST", NUM_ROWS)
    on_machine(monkeypatch, tmp_path / "first")
    server.shut_gate()
    process = start(tmp_path, *command)
    server.wait_for(NUM_AT_ONCE)
    yield process
    process.kill()


def undisturbed(folder: Path, server: CountingServer, method: str) -> bytes:
    folder.mkdir()
    write_sending(folder, server.origin, method, NUM_ROWS)
    code, _, stderr = run(folder, "run", "flow.yaml", "--output", "out.jsonl")
    assert code == 0, stderr
    server.asked.clear()
    return (folder / "out.jsonl").read_bytes()


@pytest.mark.parametrize("num_answers", [3, 30])
def test_a_machine_lost_with_its_disk_costs_what_was_in_flight(
    tmp_path: Path, server: CountingServer, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, num_answers: int
) -> None:
    expected = undisturbed(tmp_path / "calm", server, "GET")
    write_sending(tmp_path, server.origin, "GET", NUM_ROWS)
    on_machine(monkeypatch, tmp_path / "first")
    server.shut_gate()
    kill_after(tmp_path, server, num_answers, *command)
    shutil.rmtree(tmp_path / "first")
    on_machine(monkeypatch, tmp_path / "second")
    server.open_gate()
    code, _, stderr = run(tmp_path, *command)
    assert code == 0, stderr
    assert (tmp_path / "out.jsonl").read_bytes() == expected
    # The answers of the last second had not been sent; all came within one.
    assert len(server.asked) <= NUM_ROWS + NUM_AT_ONCE + num_answers
    code, stdout, _ = run(tmp_path, "runs", "--state", command[-1], "--json")
    assert [one["state"] for one in json.loads(stdout)] == ["finished"]


def test_no_effect_happens_twice_when_a_machine_is_lost(
    tmp_path: Path, server: CountingServer, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sending(tmp_path, server.origin, "POST", NUM_ROWS)
    on_machine(monkeypatch, tmp_path / "0")
    server.shut_gate()
    for number in range(1, 4):
        kill_after(tmp_path, server, 5, *command)
        shutil.rmtree(tmp_path / str(number - 1))
        on_machine(monkeypatch, tmp_path / str(number))
    server.open_gate()
    run(tmp_path, *command)
    assert max(server.by_row.values()) == 1
    lost = [json.loads(line) for line in (tmp_path / "out.jsonl.errors.jsonl").read_text().splitlines()]
    assert 0 < len(lost) <= 3 * (NUM_AT_ONCE + 5)
    # Some were killed between their claim and the request.
    assert {*range(NUM_ROWS)} - {*server.by_row} <= {one["row"] for one in lost}
    keys = {one.row: one.key for one in server.asked}
    assert all(keys[one["row"]] in one["cause"] for one in lost if one["row"] in keys)


def test_a_process_that_stood_still_makes_no_effect_once_it_is_replaced(
    tmp_path: Path,
    server: CountingServer,
    command: tuple[str, ...],
    first: subprocess.Popen[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first.send_signal(signal.SIGSTOP)
    on_machine(monkeypatch, tmp_path / "second")
    server.open_gate()
    assert run(tmp_path, *command)[0] == 1
    assert server.by_row == dict.fromkeys(range(NUM_ROWS), 1)
    output = (tmp_path / "out.jsonl").read_bytes()
    first.send_signal(signal.SIGCONT)
    code, _, stderr = finish(first)
    assert code == 1
    assert "another process has taken over this run" in stderr
    assert server.by_row == dict.fromkeys(range(NUM_ROWS), 1)
    assert (tmp_path / "out.jsonl").read_bytes() == output


def test_two_commands_at_once_are_told(
    tmp_path: Path,
    server: CountingServer,
    command: tuple[str, ...],
    first: subprocess.Popen[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_machine(monkeypatch, tmp_path / "second")
    code, _, stderr = run(tmp_path, *command)
    assert code != 0
    assert "another process is working on this run" in stderr
    server.open_gate()
    assert finish(first)[0] == 0
    assert server.by_row == dict.fromkeys(range(NUM_ROWS), 1)
