"""Batches, as the unchanged `openai` client makes them: their lines, their ends and what is refused."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from sundog.ir.logical import EngineBlock
from sundog.sched.events import RequestArrived
from sundog.serve.batches import checking
from sundog.serve.batches.attempts import Attempted
from tests.engines.server import Exchange, running_server
from tests.serve.asking import ask
from tests.serve.batching import CHAT, begun, chat_line, client_of, ended, endpoint_of, read, sent, until
from tests.serve.keyed import added, kept_keys
from tests.serve.running import Running, running
from tests.serve.test_keys_at_doors import MODELS

SLOW = EngineBlock("slow", "null", {"model": "slow", "latency_s": 60.0})
FLOW = """
name: topics
engines:
  own: {kind: "null", model: own}
inputs:
  rows: {path: rows.jsonl}
nodes:
  facts:
    llm: {engine: own, prompt: "Facts on {{ row.topic }}"}
outputs: {topic: "{{ row.topic }}", facts: "{{ facts.text }}"}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("batches")
    (folder / "topics.yaml").write_text(FLOW)
    with running(folder / "state", [folder / "topics.yaml"], [*MODELS, SLOW]) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with client_of(server.address) as client:
        yield client


def test_lines_are_answered_as_if_they_were_sent_alone(client: openai.OpenAI) -> None:
    lines = [chat_line(number) for number in range(600)]
    batch = begun(client, lines, metadata={"job": "seven"})
    assert (batch.object, batch.endpoint, batch.status) == ("batch", CHAT, "validating")
    batch = ended(client, batch.id)
    assert (batch.status, batch.errors, batch.error_file_id) == ("completed", None, None)
    assert batch.metadata == {"job": "seven"}
    assert batch.request_counts.to_dict() == {"total": 600, "completed": 600, "failed": 0}
    assert batch.expires_at - batch.created_at == 86_400
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    answers = read(client, batch.output_file_id)
    assert [one["custom_id"] for one in answers] == [line["custom_id"] for line in lines]
    for line, one in zip(lines, answers, strict=True):
        live = client.chat.completions.create(**line["body"]) if line is lines[0] else None
        response = one["response"]
        assert (one["error"], response["status_code"]) == (None, 200)
        assert response["body"]["object"] == "chat.completion"
        if live is not None:
            assert response["body"]["choices"] == [live.choices[0].to_dict()]
    assert len({one["response"]["request_id"] for one in answers}) == 600
    assert len({one["id"] for one in answers}) == 600


def test_its_files_are_files(client: openai.OpenAI, server: Running) -> None:
    batch = ended(
        client, begun(client, [chat_line(1)], output_expires_after={"anchor": "created_at", "seconds": 3600}).id
    )
    file = client.files.retrieve(batch.output_file_id)
    content = client.files.content(file.id).read()
    assert (file.purpose, file.bytes, file.filename) == ("batch_output", len(content), f"{batch.id}_output.jsonl")
    assert file.expires_at == file.created_at + 3600
    assert file.id in [one.id for one in client.files.list(purpose="batch_output")]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)
    query = "select count(*) from batch_lines where batch_id = ?"
    store = server.serving.host.store
    assert on_loop(server, lambda: store.select(query, (batch.id,))) == [(0,)]


def test_lines_are_counted(tmp_path: Path) -> None:
    with running(tmp_path, (), [*MODELS, SLOW]) as server, client_of(server.address) as client:
        lines = [chat_line(1), {**chat_line(2), "body": {"model": "model-one", "messages": 3}}, chat_line(3, "slow")]
        until(
            client, begun(client, lines).id, lambda one: one.request_counts.completed + one.request_counts.failed == 2
        )
        text = ask(server.address, "GET", "/metrics").body
        assert figures_of(text) == {
            "sundog:batches_open": 1.0,
            "sundog:batch_lines_in_flight": 1.0,
            'sundog:batch_lines_ended_total{outcome="completed"}': 1.0,
            'sundog:batch_lines_ended_total{outcome="failed"}': 1.0,
        }


def figures_of(text: str) -> dict[str, float]:
    lines = [line.split() for line in text.splitlines() if line.startswith("sundog:batch")]
    return {name: float(value) for name, value in lines}


def on_loop(server: Running, work: Any) -> Any:
    """Return what some work on the loop of a server gives."""

    async def run() -> Any:
        return work()

    return asyncio.run_coroutine_threadsafe(run(), server.loop).result(30)


ENDPOINTS = [
    ("/v1/completions", {"model": "model-one", "prompt": "hello"}, "text_completion"),
    ("/v1/embeddings", {"model": "model-one", "input": "hello"}, "list"),
    ("/v1/responses", {"model": "model-one", "input": "hello"}, "response"),
    ("/v1/messages", {"model": "model-one", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}, None),
]


@pytest.mark.parametrize(("endpoint", "body", "kind"), ENDPOINTS)
def test_all_forms_of_models(client: openai.OpenAI, endpoint: str, body: dict[str, Any], kind: str | None) -> None:
    lines = [{"custom_id": "one", "method": "POST", "url": endpoint, "body": body}]
    batch = ended(client, begun(client, lines, endpoint).id)
    assert batch.status == "completed", batch.errors
    (answer,) = read(client, batch.output_file_id)
    assert answer["response"]["body"].get("object") == kind
    if endpoint == "/v1/messages":
        assert answer["response"]["body"]["type"] == "message"


def test_a_line_that_is_refused_goes_to_the_error_file(client: openai.OpenAI) -> None:
    lines = [chat_line(1), {**chat_line(2), "body": {"model": "model-one", "messages": 3}}, chat_line(3)]
    batch = ended(client, begun(client, lines).id)
    assert batch.status == "completed"
    assert batch.request_counts.to_dict() == {"total": 3, "completed": 2, "failed": 1}
    assert [one["custom_id"] for one in read(client, batch.output_file_id)] == ["line-1", "line-3"]
    (failed,) = read(client, batch.error_file_id)
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("line-2", 400)
    assert failed["response"]["body"]["error"]["param"] == "messages"


WRONG: list[tuple[Any, str, str | None]] = [
    (b"{nothing\n", "invalid_json_line", None),
    ([1], "invalid_json_line", None),
    ({**chat_line(2), "custom_id": 7}, "invalid_custom_id", "custom_id"),
    ({**chat_line(2), "custom_id": "x" * 513}, "invalid_custom_id", "custom_id"),
    ({**chat_line(2), "method": "GET"}, "invalid_method", "method"),
    ({**chat_line(2), "url": "/v1/embeddings"}, "mismatched_endpoint", "url"),
    ({**chat_line(2), "body": None}, "invalid_body", "body"),
    (chat_line(2, stream=True), "stream_not_supported", "body.stream"),
    (chat_line(2, model="model-on"), "model_not_found", "body.model"),
    ({**chat_line(2), "body": {}}, "model_not_found", "body.model"),
    (chat_line(1), "duplicate_custom_id", "custom_id"),
]


@pytest.mark.parametrize(("line", "code", "param"), WRONG)
def test_a_file_with_a_wrong_line_fails_as_a_whole(
    client: openai.OpenAI, line: Any, code: str, param: str | None
) -> None:
    batch = ended(client, begun(client, [chat_line(1), b"\n", line, chat_line(4)]).id)
    assert (batch.status, batch.output_file_id, batch.in_progress_at) == ("failed", None, None)
    assert batch.failed_at
    (error,) = batch.errors.data
    assert (error.code, error.param, error.line) == (code, param, 3)
    assert error.message


def test_no_more_than_a_hundred_errors_are_told(client: openai.OpenAI) -> None:
    batch = ended(client, begun(client, [b"x\n"] * 1000).id)
    assert [error.line for error in batch.errors.data] == list(range(1, 101))


def test_an_empty_file_and_one_of_too_many_lines_fail(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    (error,) = ended(client, begun(client, [b"\n \n"]).id).errors.data
    assert (error.code, error.line) == ("empty_file", None)
    monkeypatch.setattr(checking.LineCheck.__init__, "__defaults__", (3,))
    (error,) = ended(client, begun(client, [chat_line(number) for number in range(4)]).id).errors.data
    assert (error.code, error.line) == ("too_many_lines", None)
    assert "3 lines" in error.message
    assert ended(client, begun(client, [chat_line(number) for number in range(3)]).id).status == "completed"


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"input_file_id": "file-none"}, 404, "input_file_id"),
        ({"input_file_id": "../x"}, 400, "input_file_id"),
        ({"endpoint": "/v1/images"}, 400, "endpoint"),
        ({"endpoint": "/v1/flows/topic"}, 404, "endpoint"),
        ({"completion_window": "soon"}, 400, "completion_window"),
        ({"completion_window": "31d"}, 400, "completion_window"),
        ({"metadata": {"a": 1}}, 400, "metadata"),
        ({"metadata": {str(number): "" for number in range(17)}}, 400, "metadata"),
        ({"output_expires_after": {"anchor": "now", "seconds": 3600}}, 400, "output_expires_after.anchor"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, 400, "output_expires_after.seconds"),
        ({"windows": 1}, 400, "windows"),
    ],
)
def test_a_wish_that_is_wrong_is_refused(
    client: openai.OpenAI, server: Running, change: dict[str, Any], status: int, param: str
) -> None:
    body = {"input_file_id": sent(client, [chat_line(1)]), "endpoint": CHAT, "completion_window": "24h", **change}
    heard = ask(server.address, "POST", "/v1/batches", body)
    assert (heard.status, heard.body["error"]["param"]) == (status, param), heard.body


def test_a_batch_is_listed_and_found_by_its_id(client: openai.OpenAI) -> None:
    made = [begun(client, [chat_line(number)]).id for number in range(3)]
    page = client.batches.list(limit=2)
    assert [batch.id for batch in page.data] == [made[2], made[1]]
    assert page.has_more
    assert next(iter(client.batches.list(limit=1, after=made[1]))).id == made[0]
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")
    with pytest.raises(openai.BadRequestError):
        client.batches.list(limit=101)


def test_a_batch_that_is_cancelled_keeps_what_has_ended(client: openai.OpenAI, server: Running) -> None:
    lines = [chat_line(number, model="slow" if number % 2 else "model-one") for number in range(400)]
    batch = begun(client, lines)
    until(client, batch.id, lambda one: one.request_counts.completed >= 100 or None)
    with pytest.raises(openai.ConflictError):
        client.files.delete(batch.input_file_id)
    cancelled = client.batches.cancel(batch.id)
    assert cancelled.status in ("cancelling", "cancelled")
    batch = ended(client, batch.id)
    assert batch.status == "cancelled"
    assert batch.cancelling_at <= batch.cancelled_at
    answers = read(client, batch.output_file_id)
    assert len(answers) == batch.request_counts.completed < 400
    assert {int(one["custom_id"].partition("-")[2]) % 2 for one in answers} == {0}
    assert server.serving.host.models.num_in_flight == 0, "nothing goes on that nobody wants"
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)
    assert client.files.delete(batch.input_file_id).deleted


def test_results_are_read_while_others_run(client: openai.OpenAI) -> None:
    batch = begun(client, [chat_line(1), chat_line(2, model="slow"), chat_line(3)])
    batch = until(client, batch.id, lambda one: one.request_counts.completed == 2)
    assert batch.status == "in_progress"
    assert [one["custom_id"] for one in read(client, batch.output_file_id)] == ["line-1", "line-3"]
    file = client.files.retrieve(batch.output_file_id)
    assert file.bytes == len(client.files.content(file.id).read())
    with pytest.raises(openai.ConflictError):
        client.files.delete(file.id)
    client.batches.cancel(batch.id)


def test_a_batch_whose_time_is_over_keeps_what_has_ended(client: openai.OpenAI) -> None:
    lines = [chat_line(1), chat_line(2, model="slow"), chat_line(3)]
    batch = ended(client, begun(client, lines, completion_window="2s").id)
    assert (batch.status, batch.expires_at - batch.created_at) == ("expired", 2)
    assert batch.request_counts.to_dict() == {"total": 3, "completed": 2, "failed": 1}
    assert [one["custom_id"] for one in read(client, batch.output_file_id)] == ["line-1", "line-3"]
    (expired,) = read(client, batch.error_file_id)
    assert (expired["custom_id"], expired["response"]) == ("line-2", None)
    assert expired["error"]["code"] == "batch_expired"


async def has_no_room(exchange: Exchange) -> None:
    await exchange.send(503, json.dumps({"error": {"message": "later"}}), Retry_After="0")


async def answers(exchange: Exchange) -> None:
    await exchange.send(200, json.dumps({"id": "x", "object": "chat.completion", "choices": []}, indent=1))


async def speaks_no_json(exchange: Exchange) -> None:
    await exchange.send(422, "<html>\n no", "text/html")


def test_a_line_waits_for_a_server_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.serve.batches.attempts.MAX_WAIT_S", 0.01)
    with running_server() as behind:
        behind.script.extend([has_no_room] * 6 + [answers, speaks_no_json])
        options = {"base_url": behind.base_url, "model": "served", "max_concurrency": 1}
        engines = [EngineBlock("far", "openai", options)]
        with running(tmp_path, (), engines) as server, client_of(server.address) as client:
            lines = [chat_line(1, model="served"), chat_line(2, model="served")]
            batch = ended(client, begun(client, lines).id)
            assert batch.request_counts.to_dict() == {"total": 2, "completed": 1, "failed": 1}
            (good,), (bad,) = read(client, batch.output_file_id), read(client, batch.error_file_id)
    assert good["response"]["body"]["id"] == "x", "an answer of many lines is one line here"
    assert bad["response"] == {**bad["response"], "status_code": 422, "body": {"error": {"message": "<html>\n no"}}}


@pytest.mark.parametrize(
    ("status", "headers", "num_failures", "wait_s"),
    [
        (200, {}, 0, None),
        (400, {}, 1, None),
        (408, {}, 1, None),
        (429, {}, 0, 0.5),
        (429, {"retry-after": "7"}, 0, 7.0),
        (429, {"retry-after": "3600"}, 0, 30.0),
        (429, {"retry-after": "soon"}, 0, 0.5),
        (429, {"x-should-retry": "false"}, 0, None),
        (503, {}, 3, 0.5),
        (529, {}, 0, 0.5),
        (500, {}, 3, 0.5),
        (500, {}, 4, None),
        (504, {}, 1, 0.5),
    ],
)
def test_which_answers_are_asked_for_again(
    status: int, headers: dict[str, str], num_failures: int, wait_s: float | None
) -> None:
    assert Attempted(status, b"{}", headers).wait_s(1, num_failures) == wait_s


def test_the_wait_grows_to_its_bound() -> None:
    waits = [Attempted(503, b"{}").wait_s(number, 0) for number in (1, 2, 3, 7, 10_000)]
    assert waits == [0.5, 1.0, 2.0, 30.0, 30.0]


def test_lines_come_behind_all_others_whatever_they_say(
    client: openai.OpenAI, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiers: list[str] = []
    run = server.serving.host.driver.run

    async def watched(arrived: RequestArrived, attempt: Any) -> Any:
        tiers.append(arrived.facts.tier)
        return await run(arrived, attempt)

    monkeypatch.setattr(server.serving.host.driver, "run", watched)
    ended(client, begun(client, [chat_line(1), chat_line(2, service_tier="priority")]).id)
    client.chat.completions.create(**chat_line(3)["body"])
    assert tiers == ["batch", "batch", "default"]


def test_a_line_that_has_ended_is_not_asked_again(tmp_path: Path) -> None:
    with running(tmp_path, (), [*MODELS, SLOW]) as server, client_of(server.address) as client:
        batch = begun(client, [chat_line(1), chat_line(2, model="slow")])
        until(client, batch.id, lambda one: one.request_counts.completed == 1)
        before = read(client, client.batches.retrieve(batch.id).output_file_id)
    with running(tmp_path, (), [*MODELS, SLOW]) as server, client_of(server.address) as client:
        until(client, batch.id, lambda one: server.serving.host.models.num_in_flight == 1)
        client.batches.cancel(batch.id)
        assert ended(client, batch.id).request_counts.to_dict() == {"total": 2, "completed": 1, "failed": 0}
        assert read(client, client.batches.retrieve(batch.id).output_file_id) == before
        text = ask(server.address, "GET", "/metrics").body
        attempts = {line for line in text.splitlines() if line.startswith("sundog:call_attempts_total")}
        assert not [line for line in attempts if 'engine="one"' in line], attempts


def test_a_batch_belongs_to_its_key(tmp_path: Path) -> None:
    ours, theirs = added(tmp_path, "ours", models=("model-one",)), added(tmp_path, "theirs")
    with running(tmp_path, (), MODELS) as server, client_of(server.address, ours) as client:
        batch = begun(client, [chat_line(1)])
        with client_of(server.address, theirs) as other:
            assert list(other.batches.list()) == []
            for refused in (other.batches.retrieve, other.batches.cancel):
                with pytest.raises(openai.NotFoundError):
                    refused(batch.id)
            with pytest.raises(openai.NotFoundError):
                other.batches.create(
                    input_file_id=batch.input_file_id, endpoint=endpoint_of(CHAT), completion_window="24h"
                )
        assert ended(client, batch.id).status == "completed"
        failed = ended(client, begun(client, [chat_line(1, model="model-two")]).id)
        (error,) = failed.errors.data
        assert error.code == "model_not_found"
        assert "model-two" not in error.message.partition(";")[2], "what a key may not use it is not told of"


def test_a_key_that_is_revoked_asks_for_no_further_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.serve.batches.answering.REMEMBERED_S", 0.0)
    key, other = added(tmp_path, "ours"), added(tmp_path, "other")
    engines = [*MODELS, EngineBlock("held", "null", {"model": "held", "latency_s": 0.2, "max_concurrency": 1})]
    with running(tmp_path, (), engines) as server:
        with client_of(server.address, key) as client:
            batch = begun(client, [chat_line(number, model="held") for number in range(600)])
            until(client, batch.id, lambda one: one.status == "in_progress")
        with kept_keys(tmp_path) as keys:
            keys.revoke("ours")
        store = server.serving.host.store
        query = "select body from batch_lines where is_error limit 1"
        deadline = time.monotonic() + 30
        while not (found := on_loop(server, lambda: store.select(query, ()))):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        response = json.loads(found[0][0])["response"]
        assert (response["status_code"], response["body"]["error"]["code"]) == (401, "invalid_api_key")
        assert other
