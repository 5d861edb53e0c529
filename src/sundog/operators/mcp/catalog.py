"""The tools that a server offers, within bounds.

Owns the reading of a server's list: at most MAX_TOOLS tools of MAX_PAGES pages, each with schemas of at most
MAX_SCHEMA_BYTES; what is beyond a bound is left out with its reason, never in silence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sundog.ir.schemas.answer_check import check_schema
from sundog.operators.mcp.annotations import ToolAnnotationsTold

if TYPE_CHECKING:
    from mcp import Client, Tool

MAX_TOOLS = 200
MAX_PAGES = 20
MAX_SCHEMA_BYTES = 64 * 2**10


@dataclass(frozen=True, slots=True)
class ListedTool:
    """A tool as its server describes it."""

    name: str
    description: str
    #: JSON Schema of its arguments.
    parameters: dict[str, Any]
    #: JSON Schema of its structured result; None where it names none.
    output: dict[str, Any] | None
    annotations: ToolAnnotationsTold


@dataclass(frozen=True, slots=True)
class ToolList:
    """The tools of a server, by name."""

    tools: tuple[ListedTool, ...]
    #: Names of tools that cannot be used, with the reason as a phrase.
    left_out: tuple[tuple[str, str], ...] = ()

    def tool(self, name: str) -> ListedTool | None:
        return next((tool for tool in self.tools if tool.name == name), None)


async def tools_of(client: Client) -> ToolList:
    """Ask a connected server for its list; raises what the protocol's library raises."""
    found: list[Tool] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor, cache_mode="bypass")
        found += page.tools
        cursor = page.next_cursor
        if cursor is None or len(found) > MAX_TOOLS:
            break
    return usable_tools(found)


def usable_tools(tools: Iterable[Tool]) -> ToolList:
    """Return the tools that can be used and those that cannot."""
    kept: dict[str, ListedTool] = {}
    left_out: dict[str, str] = {}
    for tool in tools:
        if (known := kept.get(tool.name)) and known != _listed(tool):
            # Nobody knows which of them the server means.
            left_out[tool.name] = "the server lists it twice, and not alike"
            del kept[tool.name]
        if tool.name in kept or tool.name in left_out:
            continue
        reason = next(_faults(tool), None)
        if reason is None and len(kept) == MAX_TOOLS:
            reason = f"the server lists more than {MAX_TOOLS} tools"
        if reason is not None:
            left_out[tool.name] = reason
        else:
            kept[tool.name] = _listed(tool)
    return ToolList(tuple(kept[name] for name in sorted(kept)), tuple(sorted(left_out.items())))


def _listed(tool: Tool) -> ListedTool:
    told = tool.annotations
    hints = ToolAnnotationsTold() if told is None else ToolAnnotationsTold(told.read_only_hint, told.idempotent_hint)
    return ListedTool(tool.name, tool.description or "", tool.input_schema, tool.output_schema, hints)


def _faults(tool: Tool) -> Iterator[str]:
    for what, schema in (("parameters", tool.input_schema), ("result", tool.output_schema)):
        if schema is None:
            continue
        if len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
            yield f"the schema of its {what} has more than {MAX_SCHEMA_BYTES:,} bytes"
            return
        try:
            check_schema(schema)
        except ValueError as error:
            reason = str(error).replace("'json_schema'", "it", 1)
            yield f"the schema of its {what} cannot be checked: {reason[:300]}"
