"""A request to `/v1/messages` becomes a chat request.

Owns what each field means in chat. Fields and betas that are not known are passed over, since clients send those of
the newest models to every server. Never counts tokens.
"""

from __future__ import annotations

import json
from typing import Any

from sundog.serve.wire.conversation import ChatConversation
from sundog.serve.wire.errors import wrong_request
from sundog.serve.wire.fields import count_at, list_at, object_at, optional, shown_field, text_at, truth_at, word_at
from sundog.serve.wire.messages.blocks import block_parts, blocks_at, is_passed_over, parts_of
from sundog.serve.wire.tools import ToolOffer, nested_tool

BILLING_HEADER = "x-anthropic-billing-header"
"""The beginning of a line that a client puts first into its system prompt, new for each request: with it no prompt
would have a prefix in common with another one."""

ALIKE = ("temperature", "top_p", "top_k")
"""Fields that chat has under the same name."""

MODES = {"auto": "auto", "any": "required", "none": "none"}


def messages_to_chat(body: Any, *, needs_max_tokens: bool = True) -> dict[str, Any]:
    """Return the chat request; Refusal where `body` is wrong. A request to count tokens has no `max_tokens`
    (`needs_max_tokens` false)."""
    body = object_at(body, "body")
    chat: dict[str, Any] = {"model": word_at(body.get("model"), "model"), "messages": _messages(body)}
    if needs_max_tokens or body.get("max_tokens") is not None:
        chat["max_completion_tokens"] = count_at(body.get("max_tokens"), "max_tokens")
    chat.update({key: body[key] for key in ALIKE if body.get(key) is not None})
    stops = optional(list_at, body.get("stop_sequences"), "stop_sequences")
    if stops:
        chat["stop"] = [text_at(stop, f"stop_sequences[{number}]") for number, stop in enumerate(stops)]
    chat.update(_offer(body).fields())
    chat.update(_output_fields(body))
    metadata = optional(object_at, body.get("metadata"), "metadata") or {}
    if (user := optional(text_at, metadata.get("user_id"), "metadata.user_id")) is not None:
        chat["user"] = user
    if optional(truth_at, body.get("stream"), "stream"):
        chat["stream"] = True
    return chat


def shows_thinking(body: dict[str, Any]) -> bool:
    """Return whether the answer to a request holds blocks of thinking: a client that does not ask for them reads the
    first block as the answer."""
    thinking = body.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")


def _messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    conversation = ChatConversation()
    system = _system_text(body.get("system"), "system")
    if system:
        conversation.add("system", [{"type": "text", "text": system}])
    turns = list_at(body.get("messages"), "messages")
    if not turns:
        raise wrong_request("messages", "it is empty", hint="send one message at least")
    for number, turn in enumerate(turns):
        place = f"messages[{number}]"
        _add_turn(conversation, object_at(turn, place), place)
    return conversation.messages()


def _add_turn(conversation: ChatConversation, turn: dict[str, Any], place: str) -> None:
    content = turn.get("content")
    match turn.get("role"):
        case "user":
            _add_user(conversation, content, f"{place}.content")
        case "assistant":
            _add_assistant(conversation, content, f"{place}.content")
        case "system":
            conversation.add("system", parts_of(content, f"{place}.content"))
        case role:
            raise wrong_request(f"{place}.role", f"it has to be user or assistant, not {shown_field(role)}")


def _system_text(system: Any, param: str) -> str:
    if system is None:
        return ""
    texts = [
        _without_billing_header(text_at(block.get("text"), f"{place}.text"))
        for place, block in blocks_at(system, param)
    ]
    return "\n\n".join(text for text in texts if text)


def _without_billing_header(text: str) -> str:
    if not text.lstrip().lower().startswith(BILLING_HEADER):
        return text
    return text.lstrip().partition("\n")[2].lstrip("\n")


def _add_user(conversation: ChatConversation, content: Any, param: str) -> None:
    """Add the results of tools first: chat wants them right after the calls."""
    parts: list[dict[str, Any]] = []
    for place, block in blocks_at(content, param):
        if block.get("type") == "tool_result":
            given = block.get("content")
            result = [] if given is None else parts_of(given, f"{place}.content")
            is_error = bool(optional(truth_at, block.get("is_error"), f"{place}.is_error"))
            conversation.result(_id(block, "tool_use_id", place), result, is_error=is_error)
        else:
            parts.extend(block_parts(block, place))
    if parts:
        conversation.add("user", parts)


def _add_assistant(conversation: ChatConversation, content: Any, param: str) -> None:
    """Add what an assistant thought and said, and its calls. A turn that says nothing belongs to the message
    of the turn before."""
    texts: list[str] = []
    calls: list[tuple[str, str, str]] = []
    for place, block in blocks_at(content, param):
        match block.get("type"):
            case "text":
                texts.append(text_at(block.get("text"), f"{place}.text"))
            case "thinking":
                conversation.think(text_at(block.get("thinking"), f"{place}.thinking"))
            case "tool_use":
                given = object_at(block.get("input"), f"{place}.input")
                name = word_at(block.get("name"), f"{place}.name")
                calls.append((_id(block, "id", place), name, _arguments(given, f"{place}.input")))
            case kind if not is_passed_over(kind):
                raise wrong_request(
                    f"{place}.type", f"a block of the type {shown_field(kind)} is not known in an answer"
                )
    if texts:
        conversation.say("".join(texts))
    for id, name, arguments in calls:
        conversation.call(id, name, arguments)


def _arguments(given: dict[str, Any], place: str) -> str:
    try:
        return json.dumps(given, ensure_ascii=False)
    except RecursionError:
        raise wrong_request(place, "it is nested too deeply") from None


def _id(block: dict[str, Any], key: str, place: str) -> str:
    return word_at(block.get(key), f"{place}.{key}")


def _offer(body: dict[str, Any]) -> ToolOffer:
    tools = optional(list_at, body.get("tools"), "tools") or []
    places = ((f"tools[{number}]", tool) for number, tool in enumerate(tools))
    found = [tool for place, given in places if (tool := _tool(object_at(given, place), place)) is not None]
    choice = optional(object_at, body.get("tool_choice"), "tool_choice") or {}
    is_single = optional(truth_at, choice.get("disable_parallel_tool_use"), "tool_choice.disable_parallel_tool_use")
    parallel = False if is_single else None
    match choice.get("type"):
        case "tool":
            name = word_at(choice.get("name"), "tool_choice.name")
            return ToolOffer(found, name=name, has_parallel_calls=parallel)
        case None if not choice:
            return ToolOffer(found)
        case str(kind) if kind in MODES:
            return ToolOffer(found, MODES[kind], has_parallel_calls=parallel)
        case kind:
            raise wrong_request("tool_choice.type", f"it has to be auto, any, tool or none, not {shown_field(kind)}")


def _tool(tool: dict[str, Any], place: str) -> dict[str, Any] | None:
    """Return a tool of the client's; None for one that a server of Anthropic would run."""
    if tool.get("type") not in (None, "custom"):
        return None
    return nested_tool(
        word_at(tool.get("name"), f"{place}.name"),
        object_at(tool.get("input_schema"), f"{place}.input_schema"),
        description=optional(text_at, tool.get("description"), f"{place}.description"),
        strict=optional(truth_at, tool.get("strict"), f"{place}.strict"),
    )


def _output_fields(body: dict[str, Any]) -> dict[str, Any]:
    """Return the effort and the form of the answer."""
    config = optional(object_at, body.get("output_config"), "output_config") or {}
    found: dict[str, Any] = {}
    if (effort := optional(word_at, config.get("effort"), "output_config.effort")) is not None:
        found["reasoning_effort"] = effort
    where = "output_config.format" if config.get("format") is not None else "output_format"
    form = optional(object_at, config.get("format") or body.get("output_format"), where)
    if form is not None:
        if form.get("type") != "json_schema":
            raise wrong_request(f"{where}.type", f"it has to be json_schema, not {shown_field(form.get('type'))}")
        schema = object_at(form.get("schema"), f"{where}.schema")
        named = {"name": "answer", "schema": schema, "strict": True}
        found["response_format"] = {"type": "json_schema", "json_schema": named}
    return found
