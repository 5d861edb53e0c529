"""A server's tools, named all at once -> tools as a user could have written them, one by one.

Owns the words of a set, the names of its tools, and which of them are left out. What a tool's step says is its
operator's affair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field

from sundog.errors import FlowError, OperatorError, suggest
from sundog.flow.agents.server_lists import ServerLists
from sundog.flow.complaints import Complaints
from sundog.flow.expansions.base import MadePositions
from sundog.flow.positions import DataPath
from sundog.flow.secret_check import check_no_secrets
from sundog.flow.validation import read
from sundog.ir.schemas.tool_schema import parameters_schema
from sundog.ir.server_tools import ServerTool, ServerTools
from sundog.operators.base import OPERATORS, ListingOperator

MAX_NAME = 64
SERVER_KEYS = ("mcp",)
"""Operators whose servers list tools."""


class ToolSetSpec(BaseModel):
    """The words beside the server."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    #: The tools that are taken, by the server's names; None for all.
    only: tuple[str, ...] | None = Field(default=None, min_length=1)
    #: The flow believes what the server says of its tools.
    trust: bool = False
    #: By tool, whether a use changes something; it overrules the server.
    effects: dict[str, bool] = Field(default_factory=dict)


MODIFIERS = ("timeout", "retries", "max_retry_wait")
SET_KEYS = (*ToolSetSpec.model_fields, *MODIFIERS)


@dataclass(slots=True)
class ToolSets:
    """The tools of a flow without sets."""

    tools: dict[str, Any] = field(default_factory=dict)
    #: The tools' names by set, in the order in which models are told of them.
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)


def is_set(data: Any) -> bool:
    """Return whether a written tool is a server with all of its tools."""
    return isinstance(data, dict) and any(
        isinstance(data.get(key), dict) and "tool" not in data[key] for key in SERVER_KEYS
    )


def expand_sets(
    flow: Mapping[str, Any], base_dir: Path, lists: ServerLists, positions: MadePositions, complaints: Complaints
) -> ToolSets:
    """Return the tools of a flow, with each set's own in its place. `flow`: what it says of its steps, by section."""
    found = ToolSets()
    for name, data in flow["tools"].items():
        if not is_set(data):
            found.tools[name] = data
            continue
        made = _Set(name, data, base_dir, positions, complaints).tools(lists, flow)
        found.members[name] = tuple(made)
        for tool in made:
            positions.add({("tools", tool): ("tools", name)})
            if tool in flow["tools"]:
                complaints.add(f"the name of the tool '{tool}' is taken", positions.key(("tools", tool)))
        found.tools |= made
    return found


class _Set:
    def __init__(
        self, name: str, data: Mapping[str, Any], base_dir: Path, positions: MadePositions, complaints: Complaints
    ) -> None:
        self._name = name
        self._data = data
        self._path: DataPath = ("tools", name)
        self._base_dir = base_dir
        self._positions = positions
        self._complaints = complaints

    def tools(self, lists: ServerLists, flow: Mapping[str, Any]) -> dict[str, Any]:
        """Return the written tools by name; none after complaining."""
        key = next(one for one in SERVER_KEYS if one in self._data)
        block = (*self._path, key)
        for word in self._data:
            if word not in (*SET_KEYS, key):
                hint = suggest(word, SET_KEYS)
                self._add(f"unknown key '{word}' beside the server of a set of tools", (*self._path, word), hint)
        words = read(ToolSetSpec, self._data, self._path, self._positions, self._complaints)
        operator = cast(ListingOperator, OPERATORS.get(key)(self._base_dir))
        spec = read(operator.ServerSpec, self._data[key], block, self._positions, self._complaints)
        closed = {
            word: text for word, text in self._data[key].items() if word not in operator.ServerSpec.allows_secrets
        }
        check_no_secrets(closed, block, self._positions, self._complaints)
        if words is None or spec is None:
            return {}
        try:
            operator.check_server(spec)
            listed = lists.tools_of(self._name, operator, spec, flow)
        except FlowError as error:
            place = block if error.where is None else (*block, *str(error.where).split("."))
            self._add(error.what, place, error.hint)
            return {}
        except OperatorError as error:
            self._add(error.what, block, error.hint)
            return {}
        taken = self._taken(listed, words, lists)
        return {self._tool_name(tool.name): self._written(operator, spec, tool, words) for tool in taken}

    def _taken(self, listed: ServerTools, words: ToolSetSpec, lists: ServerLists) -> list[ServerTool]:
        """Return the tools that are used, complaining of those that the flow names and the server cannot give."""
        tools: dict[str, ServerTool] = {}
        reasons = dict(listed.left_out)
        names: dict[str, str] = {}
        for tool in listed.tools:
            name = self._tool_name(tool.name)
            other = names.setdefault(name, tool.name)
            if why := _why_no_tool(name, tool) or (f"'{other}' has its name already" if other != tool.name else None):
                reasons[tool.name] = why
            else:
                tools[tool.name] = tool
        named: list[tuple[DataPath, str]] = [(("only", index), name) for index, name in enumerate(words.only or ())]
        named += [(("effects", name), name) for name in words.effects]
        for place, name in named:
            if name in reasons:
                self._add(
                    f"the tool '{name}' of the server cannot be used: {reasons[name]}", (*self._path, *place), None
                )
            elif name not in tools:
                hint = suggest(name, [*tools, *reasons])
                self._add(f"the server has no tool '{name}'", (*self._path, *place), hint)
        if words.only is None:
            by_reason: dict[str, list[str]] = {}
            for name, why in reasons.items():
                by_reason.setdefault(why, []).append(name)
            for why, names_left in by_reason.items():
                lists.left_out(self._name, names_left, why)
        if not tools and not reasons:
            self._add("the server has no tools", self._path, "name another server")
        elif not tools:
            name, why = next(iter(reasons.items()))
            self._add(f"no tool of the server can be used ('{name}': {why})", self._path, None)
        return [tool for name, tool in sorted(tools.items()) if words.only is None or name in words.only]

    def _tool_name(self, name: str) -> str:
        return f"{self._name}__{re.sub(r'[^a-zA-Z0-9_]', '_', name)}"

    def _written(self, operator: ListingOperator, spec: Any, tool: ServerTool, words: ToolSetSpec) -> dict[str, Any]:
        step = operator.tool_step(spec, tool, effect=words.effects.get(tool.name), trust=words.trust)
        return {
            "description": tool.description.strip() or tool.name,
            "parameters": {"json_schema": json.loads(tool.parameters)},
            **{key: self._data[key] for key in MODIFIERS if key in self._data},
            **step,
        }

    def _add(self, what: str, path: DataPath, hint: str | None) -> None:
        self._complaints.add(what, self._positions.key(path), hint)


def _why_no_tool(name: str, tool: ServerTool) -> str | None:
    """Return why models cannot be told of a tool; None where they can."""
    if not tool.name:
        return "it has no name"
    if len(name) > MAX_NAME:
        return f"its name has more than {MAX_NAME} characters with the set's"
    try:
        parameters_schema({"json_schema": json.loads(tool.parameters)})
    except (ValueError, RecursionError) as error:
        return f"the schema of its parameters: {str(error)[:300]}"
    return None
