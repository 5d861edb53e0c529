"""The messages of a chat request, built from turns that other forms write in pieces.

Owns the rules of chat: the calls of a turn stand in one assistant message, their results follow it, and a result holds
text only. Never reads a form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BESIDE_TEXT = "(what belongs to this result follows in the next message)"
"""The content of a tool's message whose result is a picture or a document."""


class ChatConversation:
    """This class collects messages. What an assistant says and the calls after it are one message, until
    `close_turn` or another role ends it."""

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        self._turn: dict[str, Any] | None = None
        self._thoughts: list[str] = []
        self._beside: list[dict[str, Any]] = []

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages so far; thinking after which nothing was said is left out."""
        self.close_turn()
        self._put_beside()
        return self._messages

    def add(self, role: str, parts: Sequence[dict[str, Any]]) -> None:
        """Add a message of a system or a user; one text alone is written as text."""
        self.close_turn()
        parts = [*self._beside, *parts] if role == "user" else list(parts)
        if role == "user":
            self._beside = []
        else:
            self._put_beside()
        if parts:
            self._messages.append({"role": role, "content": content_of(parts)})

    def think(self, text: str) -> None:
        """Keep what an assistant thought before what it says or calls next."""
        if text:
            self._thoughts.append(text)

    def say(self, text: str) -> None:
        """Add what an assistant said: a new message where the open one has already said something."""
        if self._turn is not None and (self._turn["content"] is not None or "tool_calls" in self._turn):
            self.close_turn()
        self._open_turn()["content"] = text

    def call(self, id: str, name: str, arguments: str) -> None:
        """Add a call of a tool by the assistant; `arguments` are JSON text."""
        call = {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
        self._open_turn().setdefault("tool_calls", []).append(call)

    def result(self, call_id: str, parts: Sequence[dict[str, Any]], *, is_error: bool = False) -> None:
        """Add the result of a call. Parts that are no text are put into a user's message after the results."""
        self._end_turn()
        texts = [part["text"] for part in parts if part["type"] == "text"]
        beside = [part for part in parts if part["type"] != "text"]
        text = "\n".join(texts) if texts or not beside else BESIDE_TEXT
        self._beside.extend(beside)
        content = f"Error: {text}" if is_error else text
        self._messages.append({"role": "tool", "tool_call_id": call_id, "content": content})

    def close_turn(self) -> None:
        """End the open message of the assistant; what it says next is another one."""
        self._end_turn()
        self._thoughts = []

    def _end_turn(self) -> None:
        self._turn = None

    def _open_turn(self) -> dict[str, Any]:
        if self._turn is None:
            self._put_beside()
            self._turn = {"role": "assistant", "content": None}
            self._messages.append(self._turn)
        if self._thoughts:
            before = self._turn.get("reasoning_content")
            self._turn["reasoning_content"] = "\n".join([*([before] if before else []), *self._thoughts])
            self._thoughts = []
        return self._turn

    def _put_beside(self) -> None:
        if self._beside:
            self._messages.append({"role": "user", "content": self._beside})
            self._beside = []


def content_of(parts: Sequence[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return the content of a message: text where it has one part, which is text, else the parts."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return list(parts)


def text_part(text: str) -> dict[str, Any]:
    """Return a part of the type text."""
    return {"type": "text", "text": text}
