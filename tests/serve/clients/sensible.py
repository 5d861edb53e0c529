"""A model that answers with sense, behind a gateway: it uses a tool once, and then says what the tool has told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.e2e.chat_server import ChatServer

CITY = "Oslo"
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
FINAL = "final_result"
"""The tool by which pydantic-ai takes an answer with a form."""


class SensibleModel(ChatServer):
    """It has one model, `m`. `bodies`: all that it was asked."""

    def __init__(self) -> None:
        super().__init__(lambda body: "")
        self.bodies: list[Mapping[str, Any]] = []

    def reply(self, body: Mapping[str, Any]) -> tuple[str, str]:
        self.bodies.append(body)
        message = message_of(body)
        if not body.get("stream"):
            return "application/json", json.dumps(_completion(message))
        return "text/event-stream", "".join(f"data: {json.dumps(one)}\n\n" for one in _chunks(message)) + (
            "data: [DONE]\n\n"
        )


def message_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The message that answers a conversation."""
    messages, tools = body["messages"], [tool["function"] for tool in body.get("tools", ())]
    told = [message["content"] for message in messages if message["role"] == "tool"]
    final = [tool for tool in tools if tool["name"] == FINAL]
    if tools and not told:
        return _call(next(tool for tool in tools if tool["name"] != FINAL))
    if final:
        return _call(final[0])
    return {"role": "assistant", "content": _text(messages, told)}


def _text(messages: Sequence[Mapping[str, Any]], told: Sequence[str]) -> str:
    """The text that is said: in DSPy's form where the prompt has that."""
    prompt = "\n".join(str(message["content"]) for message in messages)
    if "[[ ## next_tool_name ## ]]" in prompt:
        has_used = "[[ ## observation_0 ## ]]" in messages[-1]["content"]
        name, arguments = ("finish", {}) if has_used else ("weather", {"city": CITY})
        fields = {"next_thought": "I look.", "next_tool_name": name, "next_tool_args": json.dumps(arguments)}
    elif "[[ ## " in prompt:
        fields = {"reasoning": "I know.", "answer": f"sunny in {CITY}"}
    else:
        return str(told[-1]) if told else f"sunny in {CITY}"
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in {**fields, "completed": ""}.items())


def _call(tool: Mapping[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(dict.fromkeys(tool["parameters"]["properties"], CITY))
    call = {"id": f"call_{tool['name']}", "type": "function"}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{**call, "function": {"name": tool["name"], "arguments": arguments}}],
    }


def _completion(message: Mapping[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": _end(message)}
    return {**_head("chat.completion"), "choices": [choice], "usage": USAGE}


def _chunks(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in re.findall(r"\S+\s*", message["content"] or "")]
    for number, call in enumerate(message.get("tool_calls", ())):
        deltas.append({"tool_calls": [{"index": number, **call}]})
    for delta in deltas:
        yield {**_head("chat.completion.chunk"), "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    last = {"index": 0, "delta": {}, "finish_reason": _end(message)}
    yield {**_head("chat.completion.chunk"), "choices": [last], "usage": USAGE}


def _end(message: Mapping[str, Any]) -> str:
    return "tool_calls" if message.get("tool_calls") else "stop"


def _head(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "m"}
