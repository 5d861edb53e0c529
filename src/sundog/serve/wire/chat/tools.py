"""The tools that a body offers, and which of them a model must or may call.

Owns `tools`, `tool_choice` and `parallel_tool_calls`. How a model calls them is `chat.request`'s affair.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import cast

from sundog.engines.tool_use import ToolChoice, ToolSchema
from sundog.serve.wire.body_fields import Fields, refuse_field
from sundog.serve.wire.chat.schemas import schema_text

_NO_ARGUMENTS = '{"type":"object","properties":{}}'


@dataclass(frozen=True, slots=True)
class OfferedTools:
    """The tools of one request."""

    tools: tuple[ToolSchema, ...] = ()
    choice: ToolChoice = "auto"
    #: The request names the one tool that must be called; such an answer ends with `stop`.
    is_named: bool = False
    #: False asks for one call at most.
    has_parallel_calls: bool = True


def read_tools(body: Fields) -> OfferedTools:
    """Return the tools that a body offers: those that its choice leaves."""
    tools = tuple(map(_tool, body.objects("tools")))
    if len({tool.name for tool in tools}) < len(tools):
        refuse_field("two tools have one name", "tools")
    parallel = body.flag("parallel_tool_calls", True)
    return _chosen(body, OfferedTools(tools, has_parallel_calls=parallel))


def _tool(tool: Fields) -> ToolSchema:
    _check_function(tool)
    function = tool.inner("function")
    parameters, place = function.value("parameters"), function.place("parameters")
    text = _NO_ARGUMENTS if parameters in (None, {}) else schema_text(parameters, place)
    return ToolSchema(function.needed_text("name"), function.text("description") or "", text)


def _check_function(tool: Fields) -> None:
    kind = tool.needed_text("type")
    if kind != "function":
        refuse_field(f"tools of the type '{kind}' cannot be used with this model: use functions", tool.place("type"))


def _chosen(body: Fields, offered: OfferedTools) -> OfferedTools:
    written = body.value("tool_choice")
    if written is None or isinstance(written, str):
        choice = body.one_of("tool_choice", ("auto", "required", "none")) or "auto"
        return _required(offered, cast(ToolChoice, choice))
    choice_fields = body.inner("tool_choice")
    match choice_fields.needed_text("type"):
        case "function":
            named = choice_fields.inner("function")
            left = _only(offered, [named.needed_text("name")], named.place("name"))
            return replace(_required(left, "required"), is_named=True)
        case "allowed_tools":
            return _allowed(choice_fields.inner("allowed_tools"), offered)
        case kind:
            place = choice_fields.place("type")
            return refuse_field(f"'{place}' is {kind}: use function or allowed_tools", place)


def _allowed(allowed: Fields, offered: OfferedTools) -> OfferedTools:
    mode = allowed.one_of("mode", ("auto", "required")) or "auto"
    names = []
    for tool in allowed.objects("tools"):
        _check_function(tool)
        names.append(tool.inner("function").needed_text("name"))
    return _required(_only(offered, names, allowed.place("tools")), cast(ToolChoice, mode))


def _only(offered: OfferedTools, names: Sequence[str], place: str) -> OfferedTools:
    """Return the offer without the tools that are not named."""
    unknown: Set[str] = set(names) - {tool.name for tool in offered.tools}
    if unknown:
        refuse_field(f"'{place}' names a tool that is not among 'tools': {min(unknown)}", place)
    return replace(offered, tools=tuple(tool for tool in offered.tools if tool.name in names))


def _required(offered: OfferedTools, choice: ToolChoice) -> OfferedTools:
    if choice == "required" and not offered.tools:
        refuse_field("a tool must be called, and 'tools' offers none", "tool_choice")
    return replace(offered, choice=choice)
