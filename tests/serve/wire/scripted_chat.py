"""Chat answers for the tests of wire forms: completions, chunks, and the events that a stream of ours sends."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

USAGE = {
    "prompt_tokens": 30,
    "completion_tokens": 7,
    "total_tokens": 37,
    "prompt_tokens_details": {"cached_tokens": 20},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def completion(finish: str = "stop", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion", "created": 5, "model": "m", "choices": [choice], "usage": USAGE}


def call(id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def delta(**message: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": message, "finish_reason": None}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": [choice]}


def begun_call(index: int, id: str, name: str, arguments: str = "") -> dict[str, Any]:
    return delta(tool_calls=[{"index": index, **call(id, name, arguments)}])


def more_call(index: int, arguments: str) -> dict[str, Any]:
    return delta(tool_calls=[{"index": index, "function": {"arguments": arguments}}])


def finish(reason: str = "stop", **choice: Any) -> list[dict[str, Any]]:
    """Return the last two chunks: the reason, and the usage without a choice."""
    last = delta()
    last["choices"][0].update(finish_reason=reason, **choice)
    return [last, {**delta(), "choices": [], "usage": USAGE}]


def events(sent: Iterable[bytes]) -> list[dict[str, Any]]:
    """Return the data of events, each of which names its type in its first line too."""
    found = []
    for event in sent:
        head, data = event.decode().removesuffix("\n\n").split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert head == f"event: {found[-1]['type']}"
    return found


def kinds(told: Sequence[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in told]
