"""A server that is killed, stopped and reloaded while rows run: what it has accepted is finished, each effect at most
once."""

from __future__ import annotations

import http.client
import json
import random
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from faults.kills import FLOW

from tests.e2e.processes import WAIT_S, finish, read_until, start
from tests.serve.asking import Heard, ask

pytestmark = pytest.mark.slow

SEED = 17
NUM_KILLS = 6
NUM_ROWS = 240
NUM_SENDERS = 6
RUNS = "/v1/flows/notes/runs"
LATER = {"Prefer": "respond-async"}
NOTES = """
import time
from pathlib import Path

HERE = Path(__file__).parent


def write(id, text):
    with (HERE / "notes.txt").open("a") as file:
        file.write(f"{id}\\n")
    return id


def hold(id):
    while not (HERE / f"go_{id}").exists():
        time.sleep(0.01)
    return id
"""
HELD = """
name: notes
inputs:
  rows: {path: rows.jsonl}
nodes:
  held:
    python: {call: "notes:hold", args: {id: "{{ row.id }}"}}
outputs: {id: "{{ held }}"}
"""


class Server:
    """`sundog serve` in a process, at the same address each time it is started."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        # Nobody reads its log, which would fill the pipe.
        self.process = start(self.folder, "serve", "flow.yaml", "--port", str(self.port), "--log-level", "warning")
        read_until(self.process, "serving flows: notes")
        return self.process

    def kill(self) -> None:
        self.process.kill()
        assert finish(self.process)[0] == -signal.SIGKILL

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Heard:
        return ask(self.address, method, path, body, headers)

    def until(self, path: str, is_so: Callable[[Heard], bool]) -> Heard:
        """Return the answer at a path once it is as wished."""
        deadline = time.monotonic() + WAIT_S
        while not is_so(heard := self.ask("GET", path)):
            assert time.monotonic() < deadline, heard.body
            time.sleep(0.02)
        return heard


@contextmanager
def served(folder: Path, flow: str) -> Iterator[Server]:
    (folder / "flow.yaml").write_text(flow)
    (folder / "notes.py").write_text(NOTES)
    server = Server(folder)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


class Load:
    """Senders that repeat each request with its key until it is accepted."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.accepted: dict[int, str] = {}
        self.changed = threading.Condition()
        self.left = iter(range(NUM_ROWS))
        self.threads = [threading.Thread(target=self.send, daemon=True) for _ in range(NUM_SENDERS)]
        for thread in self.threads:
            thread.start()

    def send(self) -> None:
        while True:
            with self.changed:
                number = next(self.left, None)
            if number is None:
                return
            while (heard := self.attempt(number)) is None:
                time.sleep(0.02)
            with self.changed:
                self.accepted[number] = heard.body["id"]
                self.changed.notify_all()

    def attempt(self, number: int) -> Heard | None:
        headers = {"Prefer": "respond-async", "Idempotency-Key": f"key-{number}"}
        try:
            heard = ask(self.server.address, "POST", RUNS, {"row": {"id": number}}, headers)
        except (OSError, http.client.HTTPException, ValueError):
            return None
        assert heard.status in (200, 202, 503), heard.body
        return heard if heard.status != 503 else None

    def wait_for(self, num_accepted: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.accepted) >= num_accepted, WAIT_S)


def test_what_was_accepted_is_finished_after_kills_and_no_effect_happens_twice(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with served(tmp_path, FLOW) as server:
        load = Load(server)
        for number in range(NUM_KILLS):
            load.wait_for((number + 1) * NUM_ROWS // (NUM_KILLS + 1))
            time.sleep(chance.uniform(0, 0.08))
            server.kill()
            server.start()
        for thread in load.threads:
            thread.join(WAIT_S)
        assert len(load.accepted) == NUM_ROWS
        assert len(set(load.accepted.values())) == NUM_ROWS, "a key that is sent again finds its run"
        ends = {}
        for number, run_id in load.accepted.items():
            ends[number] = server.until(f"{RUNS}/{run_id}", lambda heard: heard.body["status"] == "completed").body
        noted = Counter(int(line) for line in (tmp_path / "notes.txt").read_text().split())
    assert set(noted.values()) == {1}, "no effect happens twice"
    done = {number for number, end in ends.items() if end["row"]["state"] == "done"}
    assert all(ends[number]["row"]["output"]["id"] == number for number in done)
    assert done <= noted.keys()
    doubtful = [end["row"]["error"] for number, end in ends.items() if number not in done]
    assert {error["node"] for error in doubtful} <= {"note"}, doubtful
    # Only an effect that was at work when the server was killed is in doubt.
    assert len(doubtful) <= NUM_KILLS * NUM_SENDERS


def test_a_server_that_is_asked_to_stop_ends_what_it_has_accepted(tmp_path: Path) -> None:
    with served(tmp_path, HELD) as server:
        begun = server.ask("POST", RUNS, {"row": {"id": 1}}, **LATER)
        assert begun.status == 202
        server.process.send_signal(signal.SIGTERM)
        ready = server.until("/ready", lambda heard: heard.status == 503)
        assert ready.body["status"] == "stopping"
        assert ready.body["flows"]["notes"]["rows_in_flight"] == 1
        refused = server.ask("POST", RUNS, {"row": {"id": 2}})
        assert (refused.status, refused.body["error"]["code"]) == (503, "stopping")
        assert server.ask("GET", "/health").status == 200
        (tmp_path / "go_1").touch()
        code, _, stderr = finish(server.process)
        assert code == 0, stderr
        server.start()
        kept = server.ask("GET", begun.headers["location"]).body
        assert (kept["status"], kept["row"]["output"]) == ("completed", {"id": 1})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_server_at_once_and_nothing_is_lost(tmp_path: Path, number: signal.Signals) -> None:
    with served(tmp_path, HELD) as server:
        begun = server.ask("POST", RUNS, {"row": {"id": 1}}, **LATER)
        server.process.send_signal(signal.SIGTERM)
        server.until("/ready", lambda heard: heard.status == 503)
        asked_at = time.monotonic()
        server.process.send_signal(number)
        code, _, stderr = finish(server.process)
        assert code == 128 + number, stderr
        assert time.monotonic() - asked_at < 5.0, "it waits for 30 s where nobody hurries it"
        assert "ends at once" in stderr
        (tmp_path / "go_1").touch()
        server.start()
        kept = server.until(begun.headers["location"], lambda heard: heard.body["status"] == "completed")
        assert kept.body["row"]["output"] == {"id": 1}


def tells(part: str, ready: Heard) -> bool:
    """Return whether the server says of a file that could not be reloaded what was wrong with it."""
    return part in json.dumps(ready.body["reload_errors"])


def test_a_flow_is_reloaded_while_its_rows_run_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    flow = tmp_path / "flow.yaml"
    with served(tmp_path, HELD) as server:
        old = server.ask("POST", RUNS, {"row": {"id": 1}}, **LATER)
        flow.write_text(HELD.replace("outputs: {", 'outputs: {new: "{{ row.name }}", '))
        server.until("/v1/flows/notes", lambda heard: heard.body["outputs"] == ["new", "id"])
        assert server.ask("POST", RUNS, {"row": {"id": 2}}).body["error"]["param"] == "row.name"
        (tmp_path / "go_2").touch()
        new = server.ask("POST", RUNS, {"row": {"id": 2, "name": "x"}})
        assert new.body["row"]["output"] == {"new": "x", "id": 2}
        (tmp_path / "broken.py").write_text("raise ValueError('no such thing')\n")
        for bad, part in (
            ("name: notes\nnodes: {", "flow.yaml"),
            (HELD.replace("row.id", "rwo.id"), "rwo"),
            (HELD.replace("name: notes", "name: other"), "named"),
            (HELD.replace("notes:hold", "broken:hold"), "no such thing"),
        ):
            flow.write_text(bad)
            ready = server.until("/ready", partial(tells, part))
            assert ready.status == 200, "the flow that was served before goes on"
            again = server.ask("POST", RUNS, {"row": {"id": 2, "name": "y"}})
            assert again.body["row"]["output"] == {"new": "y", "id": 2}
        (tmp_path / "go_1").touch()
        ended = server.until(old.headers["location"], lambda heard: heard.body["status"] == "completed")
        assert ended.body["row"]["output"] == {"id": 1}, "rows end with the flow that they began with"
        flow.write_text(HELD)
        server.until("/ready", lambda heard: heard.body["reload_errors"] == {})
