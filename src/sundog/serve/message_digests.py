"""Messages by what they say, whoever wrote them down: the same digest for the same message in another form.

Owns what of a message counts. Ids of calls, names and reasoning do not: clients leave them out of what they send back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

_BILLING_LINE = re.compile(r"^x-anthropic-billing-header:[^\n]*\n?", re.MULTILINE)
"""A line that Claude Code writes into its system prompt, and that differs in each request."""


def conversation_digests(scope: str, messages: Sequence[Any]) -> list[bytes]:
    """Return for each message the digest of the conversation up to it. Conversations of two scopes, e.g. of two
    tenants, are never equal."""
    digest = _of_scope(scope)
    return [digest := _next(digest, message) for message in messages]


def digest_after(digest: bytes, message: Any) -> bytes:
    """Return the digest of a conversation, known by its own, and one more message."""
    return _next(digest, message)


@lru_cache(maxsize=1024)
def _of_scope(scope: str) -> bytes:
    return _state([scope.encode("utf-8", "surrogatepass")])


def _next(digest: bytes, message: Any) -> bytes:
    return _state([digest, *_said(message)])


def _state(parts: Sequence[bytes]) -> bytes:
    state = blake2b(digest_size=16)
    for part in parts:
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.digest()


def _said(message: Any) -> list[bytes]:
    """Return the role, the content and the calls of a message."""
    if not isinstance(message, Mapping):
        return [_canonical(message)]
    role = message.get("role")
    role = "system" if role == "developer" else role
    content = message.get("content")
    text = _text(content)
    if text is None:
        said = b"parts" + _canonical(content)
    else:
        text = _BILLING_LINE.sub("", text) if role == "system" else text
        said = text.strip().encode("utf-8", "surrogatepass")
    parts = [role.encode("utf-8", "surrogatepass") if isinstance(role, str) else _canonical(role), said]
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        parts += map(_call, calls)
    return parts


def _text(content: Any) -> str | None:
    """Return a content that is text, also as a list of texts; None for any other."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return None
    texts = [part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in content]
    found = [text for text in texts if isinstance(text, str)]
    return "\n".join(found) if len(found) == len(texts) else None


def _call(call: Any) -> bytes:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return _canonical(call)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return _canonical([function.get("name"), arguments])
    return _canonical([function.get("name"), arguments])


def _canonical(value: Any) -> bytes:
    """Return a value as bytes, the same for equal JSON; values that are nested too deeply to be written are all one."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    except RecursionError:
        return b"nested too deeply"
