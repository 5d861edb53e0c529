"""The mix of requests with which the memory of a server is tried: sessions, keys, prompts and mistakes, each its own.

Owns what is asked. Each request is a function of its number and the seed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from faults.asking import request_bytes

OWN, BEHIND = "own", "behind"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
KINDS: Mapping[str, int] = {
    "alone": 25,
    "session": 25,
    "agent": 15,
    "responses": 12,
    "greedy": 8,
    "stream": 5,
    "behind": 5,
    "messages": 3,
    "wrong": 2,
}
"""The kinds of requests, each with its weight of 100."""


def kind_of(seed: int, number: int) -> str:
    """Return the kind of a request."""
    return random.Random(f"{seed} {number}").choices(list(KINDS), list(KINDS.values()))[0]


def mixed_request(seed: int, number: int) -> bytes:
    """Return one request; no two have a session, a prompt or an idempotency key in common."""
    kind, text = kind_of(seed, number), f"{number} of {seed}: " + "say a word, and say it again. " * 13
    user = {"role": "user", "content": text}
    chat: dict[str, Any] = {"model": OWN, "messages": [user], "max_tokens": 16, "temperature": 1}
    path, headers = "/v1/chat/completions", {"content-type": "application/json"}
    match kind:
        case "session":
            headers |= {"x-session-id": f"s-{seed}-{number}", "x-parent-session-id": f"p-{seed}-{number}"}
            headers |= {"x-tenant-id": f"t-{number}", "idempotency-key": f"k-{number}"}
        case "agent":
            answer = {"role": "assistant", "content": "yes"}
            chat |= {"messages": [user, answer, {"role": "user", "content": "go on"}], "tools": [TOOL]}
        case "responses":
            path, chat = "/v1/responses", {"model": OWN, "input": text * 6, "max_output_tokens": 16, "temperature": 1}
        case "greedy":
            chat["temperature"] = 0
        case "stream":
            chat["stream"] = True
        case "behind":
            chat["model"] = BEHIND
        case "messages":
            path = "/v1/messages"
        case "wrong":
            path, chat = _wrong(number, chat)
    return request_bytes("POST", path, chat, headers)


def _wrong(number: int, chat: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a request that is refused, in one of several ways."""
    return (
        ("/v1/chat/completions", {**chat, "model": f"model-{number}"}),
        (f"/v1/none/{number}", chat),
        ("/v1/chat/completions", {**chat, "messages": number}),
        (f"/v1/flows/flow-{number}/runs", {"row": {}}),
    )[number % 4]
