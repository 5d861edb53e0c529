"""The tools of one server, all at once: the address as a flow writes it, the list, and the step that uses a tool.

Owns what a tool's annotations make of its step. Never runs a tool.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from sundog.errors import FlowError
from sundog.ir.logical import OperatorSpec
from sundog.ir.server_tools import ServerTool, ServerTools
from sundog.operators.mcp.address import ServerAddress, check_server
from sundog.operators.mcp.annotations import ToolAnnotationsTold, reach_of
from sundog.operators.mcp.sessions import listed_tools
from sundog.secrets import Secrets

WHOLE_ARGUMENTS = "{{ args }}"


class MCPServerSpec(OperatorSpec):
    """The server of an mcp step, without a tool."""

    allows_secrets = frozenset({"env", "url", "headers"})

    #: The program that is the server, and its arguments.
    command: tuple[str, ...] = ()
    #: Environment variables of the program.
    env: dict[str, str] = Field(default_factory=dict)
    #: The server's URL, in place of a command.
    url: str | None = None
    #: Headers of the requests to the URL.
    headers: dict[str, str] = Field(default_factory=dict)
    #: Each call gets a connection (with a command: a process) of its own.
    stateful: bool = False
    #: So many of them at once.
    max_sessions: int = Field(default=8, ge=1, le=64)

    @property
    def address(self) -> ServerAddress:
        return ServerAddress(self.command, tuple(self.env.items()), self.url, tuple(self.headers.items()))


def check_server_spec(spec: MCPServerSpec) -> None:
    """Raise FlowError for what is wrong with a server as it is written."""
    check_server(spec.address)
    if not spec.stateful and "max_sessions" in spec.model_fields_set:
        raise FlowError("max_sessions goes with stateful: true", where="max_sessions", hint="leave it out")


async def server_tools(spec: MCPServerSpec, folder: Path, secrets: Secrets) -> ServerTools:
    """Return the server's list; OperatorError where there is none."""
    listed = await listed_tools(spec.address, folder, secrets)
    tools = tuple(
        ServerTool(
            tool.name,
            secrets.redact(tool.description),
            secrets.redact(json.dumps(tool.parameters, ensure_ascii=False, separators=(",", ":"))),
            tool.annotations.is_read_only,
            tool.annotations.is_idempotent,
        )
        for tool in listed.tools
    )
    return ServerTools(tools, listed.left_out)


def tool_step(spec: MCPServerSpec, tool: ServerTool, *, effect: bool | None, trust: bool) -> dict[str, Any]:
    """Return the step that uses a tool, as a flow would write it."""
    told = ToolAnnotationsTold(tool.is_read_only, tool.is_idempotent)
    reach = reach_of(told, effect=effect, trust=trust)
    server: Mapping[str, Any] = spec.model_dump(exclude_unset=True)
    step = {**server, "tool": tool.name, "arguments": WHOLE_ARGUMENTS, "effect": reach.is_effect}
    return {"mcp": step} if reach.is_effect or reach.is_shared else {"mcp": step, "share": False}
