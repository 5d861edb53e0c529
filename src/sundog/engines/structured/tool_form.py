"""Calls of tools by engines that offer none: the tools are told in the system message, and the answer has a form that
names one of them or is final.

Owns this form both ways. Never runs a tool.

The form is an `anyOf` of closed objects whose first field is the tool's name: a grammar can then choose by one token,
and what follows depends on it. Without `final` among them a conversation could not end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from sundog.engines.base import Message
from sundog.engines.tool_use import FINAL, ToolCall, ToolChoice, ToolSchema
from sundog.errors import BadResponse


@dataclass(frozen=True, slots=True)
class ConstrainedAnswer:
    """An answer of this form: the call of a tool, or the text that ends the conversation."""

    text: str = ""
    call: ToolCall | None = None


def constrained_schema(tools: Sequence[ToolSchema], choice: ToolChoice, answer_schema: str | None) -> str:
    """Return the schema of an answer, as JSON text. `answer_schema`: that of the last answer, None for text."""
    options = [] if choice == "none" else [_option(tool) for tool in tools]
    if choice != "required" or not options:
        answer = {"type": "string"} if answer_schema is None else json.loads(answer_schema)
        options.append(_closed(FINAL, answer=answer))
    return _compact(options[0] if len(options) == 1 else {"anyOf": options})


def constrained_messages(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> tuple[Message, ...]:
    """Return a conversation for an engine that knows no tools: they are told in the system message, calls are the
    answers that they were, and results are messages of the user. The beginning of a conversation stays the same from
    turn to turn."""
    told = told_tools(tools)
    first = messages[0] if messages and messages[0].role == "system" else None
    system = Message("system", told if first is None else f"{first.content}\n\n{told}")
    return (system, *plain_messages(messages[first is not None :]))


def plain_messages(messages: Sequence[Message]) -> Iterator[Message]:
    """Yield the messages as an engine sees them that knows of no tools: calls are the answers that they were, and
    results are messages of the user."""
    names: dict[str, str] = {}
    for message in messages:
        names |= {call.id: call.name for call in message.tool_calls}
        if message.role == "tool":
            name = names.get(message.tool_call_id or "", "the tool")
            yield Message("user", f"{name} returned:\n{message.content}")
        elif message.tool_calls:
            calls = (_written(call) for call in message.tool_calls)
            yield replace(message, content="\n".join((message.content, *calls)).strip(), tool_calls=())
        else:
            yield message


def told_tools(tools: Sequence[ToolSchema]) -> str:
    """Return what a model is told of its tools and of the form of an answer."""
    return "\n\n".join(("You can use these tools:", *map(_told, tools), _HOW))


def read_constrained(text: str) -> ConstrainedAnswer:
    """Return what an answer says. A text that is not of the form is final: an engine that does not constrain may answer
    so, and its form is judged by who asked. BadResponse for an object that names no tool."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ConstrainedAnswer(text)
    if not isinstance(value, dict) or "tool" not in value:
        return ConstrainedAnswer(text)
    name = value["tool"]
    if not isinstance(name, str):
        raise BadResponse("the answer names no tool", retryable=True)
    if name == FINAL:
        answer = value.get("answer", "")
        return ConstrainedAnswer(answer if isinstance(answer, str) else _compact(answer))
    return ConstrainedAnswer(call=ToolCall("", name, _compact(value.get("args") or {})))


def reads_as_json(text: str) -> bool:
    """Return whether `text` is JSON that can be read."""
    with suppress(ValueError, RecursionError):
        json.loads(text)
        return True
    return False


_HOW = (
    'Answer with one JSON object. To use a tool: {"tool": its name, "args": its arguments}. Once you know the answer: '
    f'{{"tool": "{FINAL}", "answer": your answer}}.'
)


def _told(tool: ToolSchema) -> str:
    return f"{tool.name}: {tool.description}\narguments: {tool.parameters}"


def _option(tool: ToolSchema) -> dict[str, Any]:
    parameters = json.loads(tool.parameters)
    # An engine of ours generates no empty object.
    return _closed(tool.name, args=parameters) if parameters.get("properties") else _closed(tool.name)


def _closed(name: str, **fields: Any) -> dict[str, Any]:
    # An enum of one: older servers do not know `const`.
    properties = {"tool": {"type": "string", "enum": [name]}, **fields}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _written(call: ToolCall) -> str:
    """Return a call as its answer was written, so that the next prompt begins with what the engine has computed."""
    arguments = "" if call.arguments == "{}" else f',"args":{call.arguments}'
    return f'{{"tool":{json.dumps(call.name)}{arguments}}}'


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
