"""Messages by what they say, whoever wrote them down: the same digest for the same message in another form.

Owns what of a message counts. Ids of calls, names and reasoning do not: clients leave them out of what they send back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
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
    return _state(scope.encode("utf-8", "surrogatepass"))


def _next(digest: bytes, message: Any) -> bytes:
    return _state(digest, *_said(message))


def _state(*parts: bytes) -> bytes:
    framed = b"".join([piece for part in parts for piece in (len(part).to_bytes(8, "big"), part)])
    return blake2b(framed, digest_size=16).digest()


def _said(message: Any) -> Iterator[bytes]:
    """Yield the role, the content and the calls of a message."""
    if not isinstance(message, Mapping):
        yield _canonical(message)
        return
    role = message.get("role")
    role = "system" if role == "developer" else role
    yield role.encode("utf-8", "surrogatepass") if isinstance(role, str) else _canonical(role)
    content = message.get("content")
    text = _text(content)
    if text is None:
        yield b"parts" + _canonical(content)
    else:
        text = _BILLING_LINE.sub("", text) if role == "system" else text
        yield text.strip().encode("utf-8", "surrogatepass")
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        yield _call(call)


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
