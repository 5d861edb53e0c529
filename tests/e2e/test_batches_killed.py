"""A server that is killed in the middle of batches: every line ends once, and no effect happens twice."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from faults.kills import FLOW

from tests.e2e.processes import finish
from tests.e2e.test_serve_killed import NOTES, Server
from tests.serve.batching import LOOK_S, begun, chat_line, client_of, read

pytestmark = pytest.mark.slow

SEED = 11
NUM_KILLS = 5
NUM_ROWS = 300
NUM_CALLS = 1_500
NOTES_FLOW = "/v1/flows/notes"
WAIT_S = 120.0


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    (folder / "flow.yaml").write_text(FLOW)
    (folder / "notes.py").write_text(NOTES)
    server = Server(folder)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


def row_line(number: int) -> dict[str, Any]:
    return {"custom_id": f"row-{number}", "method": "POST", "url": NOTES_FLOW, "body": {"row": {"id": number}}}


def num_ended(client: openai.OpenAI, *batch_ids: str) -> int:
    """Return how many lines of some batches have ended."""
    return sum(sum(counts_of(client, batch_id)) for batch_id in batch_ids)


def counts_of(client: openai.OpenAI, batch_id: str) -> tuple[int, int]:
    """Return how many lines of a batch have ended well, and how many others have ended."""
    counts = client.batches.retrieve(batch_id).request_counts
    assert counts is not None
    return counts.completed, counts.failed


def wait_for(client: openai.OpenAI, num_lines: int, *batch_ids: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while num_ended(client, *batch_ids) < num_lines:
        assert time.monotonic() < deadline, num_ended(client, *batch_ids)
        time.sleep(LOOK_S)


def test_every_line_ends_once_whenever_the_server_is_killed(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with served(tmp_path) as server, client_of(server.address) as client:
        rows = begun(client, [row_line(number) for number in range(NUM_ROWS)], NOTES_FLOW).id
        calls = begun(client, [chat_line(number, "local") for number in range(NUM_CALLS)]).id
        for number in range(NUM_KILLS):
            wait_for(client, number * (NUM_ROWS + NUM_CALLS) // (NUM_KILLS + 1) + 1, rows, calls)
            time.sleep(chance.uniform(0, 0.05))
            server.kill()
            server.start()
        ends = {}
        for batch_id, num_lines in ((rows, NUM_ROWS), (calls, NUM_CALLS)):
            wait_for(client, num_lines, batch_id)
            batch = client.batches.retrieve(batch_id)
            found = [read(client, file_id) for file_id in (batch.output_file_id, batch.error_file_id)]
            assert tuple(map(len, found)) == counts_of(client, batch_id)
            ends[batch_id] = found
    done, doubtful = ends[rows]
    assert Counter(one["custom_id"] for one in done + doubtful) == Counter(f"row-{n}" for n in range(NUM_ROWS))
    assert not ends[calls][1], ends[calls][1][:3]
    assert Counter(one["custom_id"] for one in ends[calls][0]) == Counter(f"line-{n}" for n in range(NUM_CALLS))
    noted = Counter(int(text) for text in (tmp_path / "notes.txt").read_text().split())
    assert set(noted.values()) == {1}, "no effect happens twice"
    assert {int(one["custom_id"].removeprefix("row-")) for one in done} <= noted.keys()
    assert {one["response"]["body"]["row"]["error"]["node"] for one in doubtful} <= {"note"}


def test_a_batch_goes_on_after_the_server_was_asked_to_stop(tmp_path: Path) -> None:
    with served(tmp_path) as server, client_of(server.address) as client:
        batch_id = begun(client, [row_line(number) for number in range(NUM_ROWS)], NOTES_FLOW).id
        wait_for(client, 1, batch_id)
        server.process.send_signal(signal.SIGTERM)
        code, _, stderr = finish(server.process)
        assert code == 0, stderr
        server.start()
        wait_for(client, NUM_ROWS, batch_id)
        batch = client.batches.retrieve(batch_id)
        answers = read(client, batch.output_file_id)
        assert batch.error_file_id is None, "what was begun came to its end before the server did"
    assert [one["custom_id"] for one in answers] == [f"row-{number}" for number in range(NUM_ROWS)]
    assert len((tmp_path / "notes.txt").read_text().split()) == NUM_ROWS
