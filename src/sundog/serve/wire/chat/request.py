"""A chat's body becomes a request to an engine that is no server.

Owns the form in which its models call tools. Never reads an answer: `chat.answer` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sundog.engines.base import GenerateRequest, Message
from sundog.engines.structured.tool_form import constrained_messages, constrained_schema, plain_messages
from sundog.engines.tool_use import FINAL
from sundog.serve.wire.body_fields import Fields, refuse_field
from sundog.serve.wire.chat.abilities import ChatAbilities
from sundog.serve.wire.chat.messages import read_messages
from sundog.serve.wire.chat.references import without_references
from sundog.serve.wire.chat.schemas import answer_schema, check_ability
from sundog.serve.wire.chat.tools import OfferedTools, read_tools
from sundog.serve.wire.settings import CallSettings, read_settings


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One call of a chat: the engine's request, and how its answer is read and sent."""

    #: Its priority and `about` are the host's to set.
    request: GenerateRequest
    #: The answer is JSON that names a tool or the final answer (sundog.engines.structured.tool_form).
    is_constrained: bool
    #: Texts that end the final answer of such JSON, and stay out of it. The engine is not told of them: they would cut
    #: the JSON.
    stop: tuple[str, ...]
    #: The request named the tool; an answer that calls it ends with `stop`.
    is_tool_named: bool
    is_streamed: bool
    #: The stream ends with a chunk that has the tokens.
    has_usage_chunk: bool


def chat_call(body: Mapping[str, Any], request_id: str, abilities: ChatAbilities) -> ChatCall:
    """Return the call that a body of `/v1/chat/completions` asks for; Refusal where it is wrong, or asks for what the
    engine cannot do."""
    fields = Fields(body)
    settings = read_settings(fields, abilities.default_temperature)
    messages = read_messages(fields, abilities.part_kinds)
    offered = read_tools(fields)
    schema = answer_schema(fields)
    check_ability(schema, abilities.check_schema, "response_format")
    is_constrained = abilities.tool_form == "constrained" and bool(offered.tools)
    if is_constrained:
        offered = _without_references(offered)
        schema = None if schema is None else without_references(schema, "response_format")
    if abilities.tool_form == "constrained":
        messages = _told(messages, offered)
    if is_constrained:
        schema = _constrained(offered, schema, abilities)
    stop = settings.stop if is_constrained else ()
    if is_constrained:
        settings = replace(settings, stop=())
    request = _request(request_id, messages, settings, schema)
    if abilities.tool_form == "native":
        request.tools, request.tool_choice = offered.tools, offered.choice
        request.has_parallel_calls = offered.has_parallel_calls
    return ChatCall(request, is_constrained, stop, offered.is_named, settings.is_streamed, settings.has_usage_chunk)


def _without_references(offered: OfferedTools) -> OfferedTools:
    """Return the tools with parameters that can stand inside the schema of an answer."""
    tools = tuple(
        replace(tool, parameters=without_references(tool.parameters, f"tools[{number}].function.parameters"))
        for number, tool in enumerate(offered.tools)
    )
    return replace(offered, tools=tools)


def _told(messages: tuple[Message, ...], offered: OfferedTools) -> tuple[Message, ...]:
    return constrained_messages(messages, offered.tools) if offered.tools else tuple(plain_messages(messages))


def _constrained(offered: OfferedTools, schema: str | None, abilities: ChatAbilities) -> str:
    """Return the schema of an answer that names a tool or is final."""
    if any(tool.name == FINAL for tool in offered.tools):
        refuse_field(f"a tool cannot be named '{FINAL}' with this model: that stands for its answer", "tools")
    for number, tool in enumerate(offered.tools):
        own = constrained_schema((tool,), "required", None)
        check_ability(own, abilities.check_schema, f"tools[{number}].function.parameters")
    return constrained_schema(offered.tools, offered.choice, schema)


def _request(
    request_id: str, messages: tuple[Message, ...], settings: CallSettings, schema: str | None
) -> GenerateRequest:
    return GenerateRequest(
        request_id=request_id,
        messages=messages,
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        seed=settings.seed,
        stop=settings.stop,
        json_schema=schema,
        needs_first_token=settings.is_streamed,
    )
