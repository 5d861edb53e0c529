"""The form of a request on the wire.

Owns request bodies and their paths. Never opens a connection.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from sundog.engines.base import GenerateRequest
from sundog.engines.openai.protocol.messages import message_body, tools_body

Api = Literal["chat", "completions"]

PATHS: Mapping[Api, str] = {"chat": "/chat/completions", "completions": "/completions"}
OURS = frozenset({"model", "messages", "prompt", "stream", "stream_options"})
"""The fields that say what a request is about and how its answer is read: no extra field replaces it."""
SETTINGS = frozenset({"temperature", "max_tokens", "seed", "stop", "response_format", "priority"})
"""The fields that an extra field may replace, or leave out by null."""


def request_body(
    request: GenerateRequest, *, model: str, api: Api, has_priority: bool, is_streamed: bool = True
) -> dict[str, Any]:
    """Return the body of one call. For `completions` the contents of all messages are joined by empty lines."""
    body: dict[str, Any] = {"model": model, "stream": is_streamed}
    if is_streamed:
        body["stream_options"] = {"include_usage": True}
    if api == "chat":
        body["messages"] = [message_body(message) for message in request.messages]
        body.update(tools_body(request))
    else:
        body["prompt"] = "\n\n".join(message.content for message in request.messages)
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    if request.json_schema is not None:
        schema = {"name": "answer", "strict": True, "schema": json.loads(request.json_schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if has_priority:
        body["priority"] = request.priority
    return body


def with_extra(body: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return `body` with the fields of `extra`, which win over settings; a setting that is null there is left out."""
    left_out = {name for name in SETTINGS if name in extra and extra[name] is None}
    added = {name: value for name, value in extra.items() if name not in OURS}
    return {name: value for name, value in {**body, **added}.items() if name not in left_out}
