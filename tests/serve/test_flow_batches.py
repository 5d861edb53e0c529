"""Batches whose lines are for a flow: rows accepted once, their failures told, ended with their batch."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

from sundog.errors import StoreError
from sundog.ir.logical import EngineBlock
from sundog.serve.batches.shelf import FileShelf
from sundog.store.batches import BatchBook
from tests.serve.asking import ask
from tests.serve.batching import LOOK_S, WAIT_S, begun, client_of, ended, read, sent, until
from tests.serve.keyed import added
from tests.serve.running import Running, running

FLOW = "/v1/flows/gated"
GATED = """
name: gated
inputs:
  rows: {path: rows.jsonl}
nodes:
  waited:
    python: {call: "gates:wait", args: {text: "{{ row.text }}"}, effect: true}
outputs: {text: "{{ waited }}"}
"""
GATES = """
import asyncio
from pathlib import Path

HERE = Path(__file__).parent


async def wait(text):
    with (HERE / "begun.txt").open("a") as file:
        file.write(text + "\\n")
    if text.startswith("bad"):
        raise ValueError("this text is bad")
    while text.startswith("held") and not (HERE / "open").exists():
        await asyncio.sleep(0.01)
    return text
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gates.py").write_text(GATES)
    (tmp_path / "gated.yaml").write_text(GATED)
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[Running]:
    with running(folder / "state", [folder / "gated.yaml"]) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with client_of(server.address) as client:
        yield client


def line(name: str, *texts: str, **more: Any) -> dict[str, Any]:
    """A line with a row, or several."""
    rows = [{"text": text} for text in texts]
    body = {"row": rows[0]} if len(rows) == 1 else {"rows": rows}
    return {"custom_id": name, "method": "POST", "url": FLOW, "body": {**body, **more}}


def test_rows_are_answered_and_failed_ones_are_told(client: openai.OpenAI) -> None:
    lines = [line("a", "one"), line("b", "bad"), line("c", "two", "three"), line("d", "four", "bad too")]
    batch = ended(client, begun(client, lines, FLOW).id)
    assert batch.status == "completed", batch.errors
    assert batch.request_counts.to_dict() == {"total": 4, "completed": 2, "failed": 2}
    one, several = read(client, batch.output_file_id)
    assert one["response"]["body"]["row"] == {"index": 0, "state": "done", "output": {"text": "one"}}
    assert [row["output"]["text"] for row in several["response"]["body"]["rows"]] == ["two", "three"]
    bad, mixed = read(client, batch.error_file_id)
    assert (bad["custom_id"], bad["error"]["code"]) == ("b", "row_failed")
    assert bad["response"]["body"]["row"]["error"]["node"] == "waited"
    assert mixed["error"]["message"] == "1 of 2 rows have failed"
    assert mixed["response"]["body"]["rows"][0]["output"] == {"text": "four"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"row": {"txt": "x"}}, "row.text"),
        ({"rows": []}, "rows"),
        ({"row": {"text": "x"}, "rows": []}, "rows"),
        ({"row": {"text": "x"}, "speed": 1}, "speed"),
        ({"row": {"text": "x"}, "stream": True}, "body.stream"),
    ],
)
def test_a_row_that_does_not_fit_fails_the_batch(client: openai.OpenAI, body: dict[str, Any], param: str) -> None:
    lines = [line("a", "one"), {**line("b", "x"), "body": body}]
    batch = ended(client, begun(client, lines, FLOW).id)
    assert batch.status == "failed"
    assert [(error.param, error.line) for error in batch.errors.data] == [(param, 2)]


def test_a_batch_that_is_cancelled_ends_its_rows(client: openai.OpenAI, folder: Path, server: Running) -> None:
    batch = begun(client, [line("a", "one"), line("b", "held"), line("c", "two")], FLOW)
    is_at_work = {"one", "two", "held"}
    until(client, batch.id, lambda one: one.request_counts.completed == 2 and begun_texts(folder) == is_at_work)
    client.batches.cancel(batch.id)
    batch = ended(client, batch.id)
    assert batch.status == "cancelled"
    assert [one["custom_id"] for one in read(client, batch.output_file_id)] == ["a", "c"]
    (cut,) = read(client, batch.error_file_id)
    assert cut["response"]["body"]["status"] == "cancelled"
    assert server.serving.host.flows["gated"].num_rows_in_flight == 0


def begun_texts(folder: Path) -> set[str]:
    return set((folder / "begun.txt").read_text().split())


def test_rows_at_work_end_with_the_time_of_their_batch(client: openai.OpenAI) -> None:
    batch = ended(client, begun(client, [line("a", "one"), line("b", "held")], FLOW, completion_window="1s").id)
    assert batch.status == "expired"
    assert [one["custom_id"] for one in read(client, batch.output_file_id)] == ["a"]
    (cut,) = read(client, batch.error_file_id)
    assert (cut["custom_id"], cut["error"]["code"]) == ("b", "batch_expired")


def test_a_batch_waits_for_its_flow_and_no_effect_is_doubled(folder: Path) -> None:
    paths = [folder / "gated.yaml"]
    with running(folder / "state", paths) as server, client_of(server.address) as client:
        batch = begun(client, [line(str(number), f"held-{number}") for number in range(4)], FLOW)
        until(client, batch.id, lambda one: (folder / "begun.txt").exists() and len(begun_texts(folder)) == 4)
    engines = [EngineBlock("one", "null", {"model": "m"})]
    with running(folder / "state", (), engines) as server, client_of(server.address) as client:
        waiting = client.batches.retrieve(batch.id).to_dict()
        assert waiting["status"] == "in_progress", "its flow is not served here"
        assert waiting["request_counts"] == {"total": 4, "completed": 0, "failed": 0}
    (folder / "open").touch()
    with running(folder / "state", paths) as server, client_of(server.address) as client:
        batch = ended(client, batch.id)
        # Nobody knows whether an effect has happened that was at work when the server stopped.
        assert batch.request_counts.to_dict() == {"total": 4, "completed": 0, "failed": 4}
        assert {one["error"]["code"] for one in read(client, batch.error_file_id)} == {"row_failed"}
    assert len((folder / "begun.txt").read_text().split()) == 4, "each effect began once"


def test_a_batch_whose_flow_is_not_there_ends_with_its_time(folder: Path) -> None:
    paths, state = [folder / "gated.yaml"], folder / "state"
    engines = [EngineBlock("one", "null", {"model": "m"})]
    with running(state, paths) as server, client_of(server.address) as client:
        batch = ended(client, begun(client, [line("a", "one")], FLOW).id)
    with closing(sqlite3.connect(state / "store.sqlite")) as store, store:
        # As it is where the server stops before it has looked at the lines.
        store.execute("update batches set status = 'validating', times = '{}', expires_at = ?", (time.time() + 1.0,))
    with running(state, (), engines) as server, client_of(server.address) as client:
        assert client.batches.retrieve(batch.id).status == "validating", "it waits for its flow"
        assert ended(client, batch.id).status == "expired"


def test_what_cannot_be_paid_is_not_accepted(folder: Path) -> None:
    state = folder / "state"
    key = added(state, "ours", max_tokens=1_000)
    engines = [EngineBlock("one", "null", {"model": "m"})]
    with (
        running(state, [folder / "gated.yaml"]) as server,
        running(state, (), engines) as second,
        client_of(server.address, key) as client,
    ):
        asked = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 9}
        assert ask(second.address, "POST", "/v1/chat/completions", asked, {"x-api-key": key}).status == 200
        batch = ended(client, begun(client, [line("a", "one")], FLOW).id)
        (refused,) = read(client, batch.error_file_id)
        assert refused["response"]["body"]["error"]["code"] == "accounts_held"
        assert server.serving.host.flows["gated"].num_rows_in_flight == 0
    with closing(sqlite3.connect(state / "store.sqlite")) as store:
        assert store.execute("select count(*) from accepted").fetchone() == (0,)


def test_another_process_keeps_the_batches_of_a_folder(folder: Path) -> None:
    engines = [EngineBlock("one", "null", {"model": "m"})]
    with (
        running(folder / "state", [folder / "gated.yaml"]) as server,
        running(folder / "state", (), engines) as second,
        client_of(server.address) as client,
        client_of(second.address) as other,
    ):
        batch = begun(client, [line("a", "held")], FLOW)
        assert other.batches.retrieve(batch.id).id == batch.id
        body = {"input_file_id": batch.input_file_id, "endpoint": "/v1/embeddings", "completion_window": "1h"}
        heard = ask(second.address, "POST", "/v1/batches", body)
        assert (heard.status, heard.body["error"]["code"]) == (503, "batches_elsewhere")
        heard = ask(second.address, "POST", f"/v1/batches/{batch.id}/cancel")
        assert (heard.status, heard.body["error"]["code"]) == (503, "batches_elsewhere")
        (folder / "open").touch()
        assert ended(client, batch.id).status == "completed"


def test_a_key_that_may_not_use_the_flow_is_refused(folder: Path) -> None:
    key = added(folder / "state", "ours", flows=("other",))
    with running(folder / "state", [folder / "gated.yaml"]) as server, client_of(server.address, key) as client:
        file_id = sent(client, [line("a", "one")])
        body = {"input_file_id": file_id, "endpoint": FLOW, "completion_window": "1h"}
        heard = ask(server.address, "POST", "/v1/batches", body, {"authorization": f"Bearer {key}"})
        assert (heard.status, heard.body["error"]["code"]) == (403, "flow_not_allowed")


def test_files_whose_time_is_over_are_swept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.serve.batches.batches.SWEEP_S", 0.02)
    shelf = folder / "state" / "files"
    with running(folder / "state", [folder / "gated.yaml"]) as server, client_of(server.address) as client:
        batch = ended(client, begun(client, [line("a", "one")], FLOW).id)
        assert [path.name for path in shelf.iterdir()] == [batch.input_file_id]
        with closing(sqlite3.connect(folder / "state" / "store.sqlite", timeout=30)) as store:
            with store:
                store.execute("update files set expires_at = 1.0")
            deadline = time.monotonic() + WAIT_S
            query = "select (select count(*) from files) + (select count(*) from batch_lines)"
            while store.execute(query).fetchone() != (0,) or list(shelf.iterdir()):
                assert time.monotonic() < deadline
                time.sleep(LOOK_S)
        assert client.batches.retrieve(batch.id).status == "completed", "a batch outlives its files"


def test_what_a_killed_process_has_left_goes_after_a_day(folder: Path) -> None:
    shelf = folder / "state" / "files"
    with running(folder / "state", [folder / "gated.yaml"]) as server, client_of(server.address) as client:
        kept = sent(client, [line("a", "one")])
    for name in (kept, "file-half.part", "file-uncommitted", "file-new.part"):
        (shelf / name).touch()
        if name != "file-new.part":
            os.utime(shelf / name, (1.0, 1.0))
    with running(folder / "state", [folder / "gated.yaml"]):
        assert {path.name for path in shelf.iterdir()} == {kept, "file-new.part"}


def left_over(state: Path) -> int:
    """Return how many rows of files, ends of lines and files on the disk there are."""
    query = "select (select count(*) from files) + (select count(*) from batch_lines)"
    with closing(sqlite3.connect(state / "store.sqlite", timeout=30)) as store:
        (number,) = store.execute(query).fetchone()
    return int(number) + len(list((state / "files").iterdir()))


def wait_until_left(state: Path, number: int) -> None:
    deadline = time.monotonic() + WAIT_S / 6
    while left_over(state) != number:
        assert time.monotonic() < deadline, left_over(state)
        time.sleep(LOOK_S)


def test_a_file_whose_end_is_cut_off_is_swept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = folder / "state"

    def cut_off(*args: Any, **kinds: Any) -> Any:
        raise StoreError("killed here")

    with running(state, [folder / "gated.yaml"]) as server, client_of(server.address) as client:
        batch = ended(client, begun(client, [line("a", "one"), line("b", "two")], FLOW).id)
        with monkeypatch.context() as killing:
            killing.setattr(BatchBook, "drop_lines", cut_off)
            killing.setattr(FileShelf, "remove", cut_off)
            for file_id in (batch.output_file_id, batch.input_file_id):
                with pytest.raises(openai.InternalServerError):
                    client.files.delete(file_id)
                with pytest.raises(openai.NotFoundError):
                    client.files.retrieve(file_id)
    assert left_over(state) == 5
    with running(state, [folder / "gated.yaml"]):
        wait_until_left(state, 0)


def test_a_sweep_takes_all_files_but_those_that_a_batch_needs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.serve.batches.batches.NUM_SWEPT_AT_ONCE", 4)
    state = folder / "state"
    with running(state, [folder / "gated.yaml"]) as server, client_of(server.address) as client:
        needed = {begun(client, [line("a", "held")], FLOW).input_file_id for _ in range(6)}
        for _ in range(11):
            sent(client, [line("a", "one")])
    with closing(sqlite3.connect(state / "store.sqlite", timeout=30)) as store, store:
        store.execute("update files set expires_at = created_at - 1e6")
    # Where their flow is not served, they wait.
    with running(state, engines=[EngineBlock("one", "null", {"model": "one"})]):
        wait_until_left(state, 2 * len(needed))
        assert {path.name for path in (state / "files").iterdir()} == needed
