"""One choice of an answer, whole or a piece of it, in the forms that servers give it.

Owns the reading of text, thinking, refusals and finish reasons. Keeps nothing from one piece to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sundog.engines.base import FinishReason
from sundog.engines.openai.protocol.json_text import shown_json
from sundog.errors import BadResponse

STOPPED = {"stop", "eos", "eos_token", "end_turn", "stop_sequence", "end", "complete", "completed"}
CUT_OFF = {"length", "max_tokens", "max_output_tokens", "model_length"}
FILTERED = {"content_filter", "content_filtered", "safety", "recitation", "prohibited_content"}
TOOLS = {"tool_calls", "function_call", "tool_use"}
BROKEN_OFF = {"error", "abort", "aborted", "cancelled", "network_error", "engine_overloaded"}

THINKING = ("reasoning_content", "reasoning", "thinking", "reasoning_details")


@dataclass(slots=True)
class Piece:
    """One piece of an answer, as an event brings it."""

    text: str = ""
    refusal: str = ""
    finish_reason: FinishReason | None = None
    #: It holds text of the model's thinking, which is no part of the answer.
    has_thought: bool = False
    #: The calls of tools, or pieces of them, as the server writes them.
    calls: Any = None


def read_choice(choice: Mapping[str, Any]) -> Piece:
    """Return what a choice says. BadResponse for an end that is none of an answer; AttributeError or TypeError where
    the choice has another form."""
    message = choice.get("delta") or choice.get("message") or {}
    piece = Piece(finish_reason=_finish_reason(choice.get("finish_reason")))
    piece.refusal = _text(message.get("refusal"))
    piece.has_thought = any(message.get(key) for key in THINKING)
    piece.calls = message.get("tool_calls") or None
    if piece.calls is None and (call := message.get("function_call")):
        piece.calls = [call]
    content = message.get("content")
    if content is None:
        content = choice.get("text")
    if isinstance(content, list):
        for part in content:
            _add_part(piece, part)
    else:
        piece.text = _text(content)
    return piece


def called_a_tool() -> BadResponse:
    """Return the failure of an answer that is the call of a tool."""
    hint = "this step offers the model no tools: take them out of extra_body or of the server's settings"
    return BadResponse("the model called a tool instead of answering", hint=hint)


def _add_part(piece: Piece, part: Any) -> None:
    if isinstance(part, str):
        piece.text += part
        return
    match part.get("type"):
        case "text" | "output_text":
            piece.text += _text(part.get("text"))
        case "refusal":
            piece.refusal += _text(part.get("refusal"))
        case "thinking" | "reasoning" | "redacted_thinking":
            piece.has_thought = True
        case kind:
            raise BadResponse(
                f"the answer has a part of the type '{shown_json(kind, 80)}'", hint="sundog takes answers of text only"
            )


def _text(written: Any, what: str = "text") -> str:
    if written is None:
        return ""
    if not isinstance(written, str):
        raise TypeError(f"its {what} is of the type {type(written).__name__}")
    return written


def _finish_reason(written: Any) -> FinishReason | None:
    """Return the reason in sundog's words, None where there is none: many servers write an empty text where there is no
    reason yet."""
    reason = shown_json(_text(written, "finish_reason"), 80).lower()
    if not reason:
        return None
    if reason in STOPPED:
        return "stop"
    if reason in CUT_OFF:
        return "length"
    if reason in FILTERED:
        raise BadResponse(f"the server's filter ended the answer ('{reason}')", hint="change what the row asks for")
    if reason in TOOLS:
        return "tool_calls"
    if reason in BROKEN_OFF:
        raise BadResponse(f"the server broke off the answer ('{reason}')", retryable=True)
    raise BadResponse(f"the answer ended for the reason '{reason}'", hint="sundog takes 'stop' and 'length'")
