"""Batches of a test, as the unchanged `openai` client makes them."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from typing import Any

import openai

CHAT = "/v1/chat/completions"
WAIT_S = 60.0
LOOK_S = 0.02
OPEN = ("validating", "in_progress", "finalizing", "cancelling")


def client_of(address: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0)


def chat_line(number: int, model: str = "model-one", url: str = CHAT, **more: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": f"hello {number}"}], **more}
    return {"custom_id": f"line-{number}", "method": "POST", "url": url, "body": body}


def encoded(lines: Sequence[Any]) -> bytes:
    return b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)


def sent(client: openai.OpenAI, lines: Sequence[Any]) -> str:
    """Return the id of a file with some lines."""
    return client.files.create(file=("in.jsonl", io.BytesIO(encoded(lines))), purpose="batch").id


def begun(client: openai.OpenAI, lines: Sequence[Any], endpoint: str = CHAT, **more: Any) -> Any:
    """Return a new batch of some lines."""
    asked: Any = {"completion_window": "24h", **more}
    return client.batches.create(input_file_id=sent(client, lines), endpoint=endpoint_of(endpoint), **asked)


def endpoint_of(endpoint: str) -> Any:
    """Return an endpoint as the client's types would have it, which do not know of flows."""
    return endpoint


def ended(client: openai.OpenAI, batch_id: str) -> Any:
    """Return a batch once it has ended."""
    return until(client, batch_id, lambda batch: batch.status not in OPEN)


def until(client: openai.OpenAI, batch_id: str, is_so: Any) -> Any:
    """Return a batch once it is as wished."""
    deadline = time.monotonic() + WAIT_S
    while not is_so(batch := client.batches.retrieve(batch_id)):
        assert time.monotonic() < deadline, batch
        time.sleep(LOOK_S)
    return batch


def read(client: openai.OpenAI, file_id: str | None) -> list[Any]:
    """Return the lines of a file, none where there is no file."""
    if file_id is None:
        return []
    return [json.loads(line) for line in client.files.content(file_id).read().splitlines()]
