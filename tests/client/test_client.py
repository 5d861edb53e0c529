"""sundog.Client: rows go to a server and come back, each worked on once though connections are lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import sundog as sd
from sundog.client import RowFailed
from sundog.errors import ConfigError, InputError, RunError
from tests.serve.asking import ask
from tests.serve.running import Running, running

FLOW = """
name: notes
inputs:
  rows: {path: rows.jsonl}
nodes:
  keep:
    filter: "{{ row.text != 'dropped' }}"
  note:
    python: {call: "client_notes:write", args: {text: "{{ row.text }}"}, effect: true}
outputs: {text: "{{ note }}"}
"""
NOTES = """
import time
from pathlib import Path

HERE = Path(__file__).parent


def write(text):
    if text == "bad":
        raise ValueError("this text is bad")
    with (HERE / "notes.txt").open("a") as file:
        file.write(text + "\\n")
    while text.startswith("held") and not (HERE / "go").exists():
        time.sleep(0.01)
    return text.upper()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    (folder / "flow.yaml").write_text(FLOW)
    (folder / "client_notes.py").write_text(NOTES)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with running(folder / "state", [folder / "flow.yaml"]) as one:
        yield one


@pytest.fixture
def client(server: Running) -> Iterator[sd.Client]:
    with sd.Client(server.address) as one:
        yield one


def rows_of(*texts: str) -> list[dict[str, str]]:
    return [{"text": text} for text in texts]


def test_a_row_gives_its_output(client: sd.Client) -> None:
    assert client.run("notes", {"text": "one"}, deadline_s=60, priority=1) == {"text": "ONE"}
    assert client.run("notes", {"text": "dropped"}) is None


def test_a_failed_row_raises_its_error(client: sd.Client) -> None:
    with pytest.raises(RowFailed, match="this text is bad") as failed:
        client.run("notes", {"text": "bad"})
    assert failed.value.node == "note"
    assert isinstance(failed.value, sd.errors.SundogError)


def test_rows_come_back_in_their_order(client: sd.Client) -> None:
    rows = client.run_rows("notes", rows_of("one", "bad", "dropped", "four"))
    assert [(row.index, row.state, row.output) for row in rows] == [
        (0, "done", {"text": "ONE"}),
        (1, "failed", None),
        (2, "dropped", None),
        (3, "done", {"text": "FOUR"}),
    ]
    with pytest.raises(RowFailed):
        rows[1].value()


def test_rows_are_streamed_once_each(client: sd.Client) -> None:
    rows = list(client.stream("notes", rows_of("a", "b", "bad")))
    assert sorted((row.index, row.state) for row in rows) == [(0, "done"), (1, "done"), (2, "failed")]


def test_a_submitted_run_is_waited_for_or_cancelled(client: sd.Client, folder: Path) -> None:
    first, second = client.submit("notes", rows_of("held 1")), client.submit("notes", rows_of("held 2"))
    assert first.status() == second.status() == "running"
    second.cancel()
    assert second.status() == "cancelled"
    (folder / "go").touch()
    assert [row.output for row in first.wait()] == [{"text": "HELD 1"}]
    assert first.status() == "completed"


@pytest.mark.parametrize(
    ("flow", "row", "part"), [("note", {"text": "x"}, "did you mean 'notes'"), ("notes", {"txt": "x"}, "row has no")]
)
def test_a_wrong_request_raises_what_the_server_says(
    client: sd.Client, flow: str, row: dict[str, str], part: str
) -> None:
    with pytest.raises(InputError, match=part):
        client.run(flow, row)
    with pytest.raises(InputError, match=part):
        list(client.stream(flow, [row]))


def test_a_server_that_is_not_there_is_told() -> None:
    with sd.Client("http://127.0.0.1:9", patience_s=0) as client:
        with pytest.raises(RunError, match="does not answer"):
            client.run("notes", {"text": "x"})
        with pytest.raises(RunError, match="does not answer"):
            list(client.stream("notes", [{"text": "x"}]))
    with sd.Client("nowhere") as client, pytest.raises(ConfigError):
        client.run("notes", {"text": "x"})


class Front(ThreadingHTTPServer):
    """A server before the server: it hands requests on, and loses its first answers, of streams their ends."""

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), Losing)
        self.behind = behind
        self.num_to_lose = 2
        #: The idempotency keys that came.
        self.keys: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Losing(BaseHTTPRequestHandler):
    server: Front

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name: self.headers[name] for name in ("Idempotency-Key", "Prefer") if self.headers[name]}
        self.server.keys.append(headers["Idempotency-Key"])
        heard = ask(self.server.behind, "POST", self.path, body, headers, as_text=True)
        self.close_connection = True
        loses = self.server.num_to_lose > 0
        self.server.num_to_lose -= 1
        is_stream = heard.headers["content-type"].startswith("text/event-stream")
        if loses and not is_stream:
            return
        text: str = heard.body
        self.send_response(heard.status)
        self.send_header("content-type", heard.headers["content-type"])
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.partition("event: end")[0].encode() if loses else text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def losing(behind: str) -> Iterator[Front]:
    with Front(behind) as front:
        thread = threading.Thread(target=front.serve_forever)
        thread.start()
        try:
            yield front
        finally:
            front.shutdown()
            thread.join()


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_lost_answer_is_asked_for_again_and_nothing_is_done_twice(
    server: Running, folder: Path, is_streamed: bool
) -> None:
    texts = [f"lost {is_streamed} {number}" for number in range(3)]
    with losing(server.address) as front, sd.Client(front.address) as client:
        ask_for = client.stream if is_streamed else client.run_rows
        rows = list(ask_for("notes", rows_of(*texts)))
    assert sorted(row.output["text"] for row in rows if row.output) == [text.upper() for text in texts]
    assert len(front.keys) == 3
    assert len(set(front.keys)) == 1
    written = (folder / "notes.txt").read_text().splitlines()
    assert sorted(line for line in written if line.startswith(f"lost {is_streamed}")) == texts


def test_a_client_works_where_a_loop_runs(client: sd.Client) -> None:
    import asyncio

    async def test() -> None:
        assert client.run("notes", {"text": "two"}) == {"text": "TWO"}

    asyncio.run(test())
