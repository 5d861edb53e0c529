"""A request to `/v1/responses` becomes a chat request.

Owns what each field means in chat. State is the door's: `background`, `store`, `previous_response_id` and
`conversation` are not read here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sundog.serve.wire.conversation import ChatConversation
from sundog.serve.wire.errors import wrong_request
from sundog.serve.wire.fields import count_at, list_at, object_at, optional, shown_field, text_at, truth_at, word_at
from sundog.serve.wire.responses.items import add_items, input_items
from sundog.serve.wire.tools import ToolOffer, nested_tool

OWN_FIELDS = frozenset(
    [
        *("input", "instructions", "max_output_tokens", "reasoning", "text", "tools", "tool_choice", "stream"),
        *("parallel_tool_calls", "previous_response_id", "conversation", "store", "background", "include"),
        *("truncation", "max_tool_calls", "prompt", "context_management", "stream_options", "top_logprobs"),
    ]
)
"""Fields that mean something in this form. All others are given to chat as they are: it has the same, or an engine
knows them."""

MODES = ("auto", "none", "required")


def responses_to_chat(body: Any, *, earlier: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the chat request; Refusal where `body` is wrong. `earlier` are the items that come before its input, as
    `items_of` gave them for the answer that it follows."""
    body = object_at(body, "body")
    _refuse_what_is_not_here(body)
    chat = {key: value for key, value in body.items() if key not in OWN_FIELDS and value is not None}
    chat["model"] = word_at(body.get("model"), "model")
    chat["messages"] = _messages(body, earlier)
    optional(object_at, body.get("metadata"), "metadata")
    if (limit := optional(count_at, body.get("max_output_tokens"), "max_output_tokens")) is not None:
        chat["max_completion_tokens"] = limit
    chat.update(_offer(body).fields())
    chat.update(_text_fields(body))
    reasoning = optional(object_at, body.get("reasoning"), "reasoning") or {}
    if (effort := optional(word_at, reasoning.get("effort"), "reasoning.effort")) is not None:
        chat["reasoning_effort"] = effort
    if optional(truth_at, body.get("stream"), "stream"):
        chat["stream"] = True
    return chat


def _refuse_what_is_not_here(body: Mapping[str, Any]) -> None:
    if body.get("prompt") is not None:
        hint = "send its text as instructions and input"
        raise wrong_request("prompt", "templates of prompts are not kept here", hint=hint)
    if body.get("top_logprobs"):
        raise wrong_request("top_logprobs", "this door tells no log probabilities", hint="ask /v1/chat/completions")


def _messages(body: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    conversation = ChatConversation()
    instructions = optional(text_at, body.get("instructions"), "instructions")
    if instructions:
        conversation.add("system", [{"type": "text", "text": instructions}])
    items = input_items(body)
    known_ids = frozenset(item["id"] for item in earlier if isinstance(item.get("id"), str))
    add_items(conversation, earlier, "previous_response_id", known_ids)
    add_items(conversation, items, "input", known_ids)
    messages = conversation.messages()
    if not items and not earlier:
        raise wrong_request("input", "it is missing or empty", hint="send text, or one item at least")
    if not messages:
        raise wrong_request("input", "nothing in it is said to a model", hint="send one message at least")
    return messages


def _offer(body: Mapping[str, Any]) -> ToolOffer:
    given = optional(list_at, body.get("tools"), "tools") or []
    places = ((f"tools[{number}]", tool) for number, tool in enumerate(given))
    tools = [tool for place, one in places if (tool := _tool(object_at(one, place), place)) is not None]
    parallel = optional(truth_at, body.get("parallel_tool_calls"), "parallel_tool_calls")
    choice = body.get("tool_choice")
    if choice is None or (isinstance(choice, str) and choice in MODES):
        return ToolOffer(tools, choice, has_parallel_calls=parallel)
    if not isinstance(choice, dict):
        raise wrong_request("tool_choice", f"it has to be auto, none, required or an object, not {shown_field(choice)}")
    match choice.get("type"):
        case "function":
            name = word_at(choice.get("name"), "tool_choice.name")
            return ToolOffer(tools, name=name, has_parallel_calls=parallel)
        case "allowed_tools":
            mode = choice.get("mode")
            if mode not in ("auto", "required"):
                raise wrong_request("tool_choice.mode", f"it has to be auto or required, not {shown_field(mode)}")
            return ToolOffer(_allowed(tools, choice), mode, has_parallel_calls=parallel)
    hint = "only functions can be called here"
    raise wrong_request("tool_choice.type", f"{shown_field(choice.get('type'))} is not offered", hint=hint)


def _allowed(tools: Sequence[dict[str, Any]], choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tools that a choice allows: engines know no such choice, so the others are not offered."""
    where = "tool_choice.tools"
    places = [(f"{where}[{number}]", one) for number, one in enumerate(list_at(choice.get("tools"), where))]
    functions = [(place, one) for place, one in places if object_at(one, place).get("type") == "function"]
    names = {word_at(one.get("name"), f"{place}.name") for place, one in functions}
    offered = {tool["function"]["name"] for tool in tools}
    if unknown := sorted(names - offered):
        raise wrong_request(where, f"{shown_field(unknown[0])} is not offered", hint="name functions of `tools`")
    return [tool for tool in tools if tool["function"]["name"] in names]


def _tool(tool: Mapping[str, Any], place: str) -> dict[str, Any] | None:
    """Return a function; None for a tool of another type, which no engine here can run: clients offer them to every
    server."""
    if tool.get("type") != "function":
        return None
    return nested_tool(
        word_at(tool.get("name"), f"{place}.name"),
        optional(object_at, tool.get("parameters"), f"{place}.parameters"),
        description=optional(text_at, tool.get("description"), f"{place}.description"),
        strict=optional(truth_at, tool.get("strict"), f"{place}.strict"),
    )


def _text_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form and the length of the answer."""
    text = optional(object_at, body.get("text"), "text") or {}
    found: dict[str, Any] = {}
    if (verbosity := optional(word_at, text.get("verbosity"), "text.verbosity")) is not None:
        found["verbosity"] = verbosity
    form = optional(object_at, text.get("format"), "text.format") or {"type": "text"}
    match form.get("type"):
        case "text":
            pass
        case "json_object":
            found["response_format"] = {"type": "json_object"}
        case "json_schema":
            found["response_format"] = {"type": "json_schema", "json_schema": _schema(form)}
        case kind:
            what = f"it has to be text, json_object or json_schema, not {shown_field(kind)}"
            raise wrong_request("text.format.type", what)
    return found


def _schema(form: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": word_at(form.get("name"), "text.format.name"),
        "schema": object_at(form.get("schema"), "text.format.schema"),
    }
    if (strict := optional(truth_at, form.get("strict"), "text.format.strict")) is not None:
        found["strict"] = strict
    if (description := optional(text_at, form.get("description"), "text.format.description")) is not None:
        found["description"] = description
    return found
