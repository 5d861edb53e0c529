"""Batches in trouble: a server that is away, a file that is gone, an end that comes late. Others hear nothing of it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from sundog.ir.logical import EngineBlock
from sundog.serve.batches.answering import ModelLines
from sundog.serve.batches.attempts import GONE, Attempted
from sundog.serve.wire.batches.lines import BatchLine
from sundog.store.batches import BatchBook, LineEnd
from tests.serve.batching import CHAT, begun, chat_line, client_of, ended, endpoint_of, read, sent, until
from tests.serve.running import running
from tests.serve.test_keys_at_doors import MODELS

SLOW = EngineBlock("slow", "null", {"model": "slow", "latency_s": 60.0})


def test_a_batch_that_waits_for_its_server_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = ModelLines.attempt

    async def one_is_away(self: ModelLines, line: BatchLine) -> Attempted:
        return GONE if line.body["model"] == "model-two" else await attempt(self, line)

    monkeypatch.setattr(ModelLines, "attempt", one_is_away)
    monkeypatch.setattr("sundog.serve.batches.run.MAX_LINES_AT_ONCE", 32)
    monkeypatch.setattr("sundog.serve.batches.room.MAX_LINES_AT_ONCE", 8)
    monkeypatch.setattr("sundog.serve.batches.attempts.MAX_WAIT_S", 0.05)
    with running(tmp_path, (), MODELS) as server, client_of(server.address) as client:
        stuck = begun(client, [chat_line(number, model="model-two") for number in range(50)])
        until(client, stuck.id, lambda one: server.serving.batch_figures.num_lines_in_flight == 32)
        other = ended(client, begun(client, [chat_line(number) for number in range(20)]).id)
        assert other.request_counts.completed == 20
        assert server.serving.batch_figures.num_lines_in_flight == 32, "no more of its lines are in memory"
        assert client.batches.retrieve(stuck.id).status == "in_progress"
        client.batches.cancel(stuck.id)


@pytest.mark.parametrize("num_lines", [3, 50])
def test_a_batch_that_waits_takes_no_turn_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_lines: int
) -> None:
    attempt, are_away = ModelLines.attempt, [True]

    async def one_is_away(self: ModelLines, line: BatchLine) -> Attempted:
        return GONE if line.body["model"] == "model-two" and are_away[0] else await attempt(self, line)

    monkeypatch.setattr(ModelLines, "attempt", one_is_away)
    monkeypatch.setattr("sundog.serve.batches.batches.MAX_AT_WORK", 1)
    monkeypatch.setattr("sundog.serve.batches.run.MAX_LINES_AT_ONCE", 8)
    monkeypatch.setattr("sundog.serve.batches.attempts.MAX_WAIT_S", 0.3)
    with running(tmp_path, (), MODELS) as server, client_of(server.address) as client:
        stuck = begun(client, [chat_line(number, model="model-two") for number in range(num_lines)])
        until(client, stuck.id, lambda one: server.serving.batch_figures.num_lines_in_flight == min(num_lines, 8))
        for _ in range(3):
            other = ended(client, begun(client, [chat_line(number) for number in range(20)]).id)
            assert other.request_counts.completed == 20
        are_away.clear()
        are_away.append(False)
        assert ended(client, stuck.id).request_counts.completed == num_lines


def test_a_batch_whose_file_is_gone_fails_and_no_other_one(tmp_path: Path) -> None:
    with running(tmp_path, (), MODELS) as server, client_of(server.address) as client:
        file_id = sent(client, [chat_line(1)])
        (tmp_path / "files" / file_id).unlink()
        batch = client.batches.create(input_file_id=file_id, endpoint=endpoint_of(CHAT), completion_window="24h")
        batch = ended(client, batch.id)
        (error,) = batch.errors.data
        assert (batch.status, error.code, error.param) == ("failed", "file_not_readable", "input_file_id")
        assert str(tmp_path) not in error.message
        assert ended(client, begun(client, [chat_line(1)]).id).status == "completed"


def test_a_batch_whose_file_goes_while_it_is_worked_on_fails(tmp_path: Path) -> None:
    with running(tmp_path, (), [*MODELS, SLOW]) as server, client_of(server.address) as client:
        batch = begun(client, [chat_line(number, model="slow") for number in range(600)])
        until(client, batch.id, lambda one: one.status == "in_progress")
    (tmp_path / "files" / batch.input_file_id).unlink()
    with running(tmp_path, (), [*MODELS, SLOW]) as server, client_of(server.address) as client:
        assert ended(client, batch.id).status == "failed"
        assert ended(client, begun(client, [chat_line(1)]).id).status == "completed"


def test_a_line_that_ends_with_the_time_of_its_batch_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_line = BatchBook.end_line

    async def late(self: BatchBook, batch_id: str, end: LineEnd, file: Any) -> None:
        (expires_at,) = self._store.select("select expires_at from batches", ())[0]
        if not end.is_error:
            await asyncio.sleep(expires_at + 0.2 - time.time())
        await end_line(self, batch_id, end, file)

    monkeypatch.setattr(BatchBook, "end_line", late)
    with running(tmp_path, (), MODELS) as server, client_of(server.address) as client:
        batch = ended(client, begun(client, [chat_line(1)], completion_window="1s").id)
        assert batch.request_counts.to_dict() == {"total": 1, "completed": 1, "failed": 0}
        assert len(read(client, batch.output_file_id)) == 1
