"""The `mcp` step: one use of a tool that a server of the Model Context Protocol offers.

Owns the spec, what the plan knows of the step, and one attempt. A tool is an effect unless the step says
`effect: false`: what a server says of its tools is its own word, and the plan is made without asking it. The protocol's
library is loaded when a server is first asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from sundog.errors import FlowError, OperatorError, suggest
from sundog.ir.logical import EngineBlock, OperatorSpec
from sundog.ir.physical import Sharing
from sundog.ir.schemas.answer_check import find_answer_mistake
from sundog.ir.schemas.shape import Anything, ListOf, Record, Scalar, Shape
from sundog.ir.server_tools import ServerTool, ServerTools
from sundog.ir.templates.render import Scope
from sundog.ir.templates.template import Template
from sundog.operators.arguments import (
    Argument,
    check_secrets,
    held_templates,
    redact_error,
    render_argument,
    reveal_argument,
    secret_places,
)
from sundog.operators.base import BoundCall, CallContext, Finding, Inspection, Outcome, PayloadForm, Traits
from sundog.operators.mcp.address import POOL_PREFIX, ServerAddress
from sundog.operators.mcp.annotations import ToolAnnotationsTold, reach_of
from sundog.operators.mcp.catalog import ListedTool
from sundog.operators.mcp.result import tool_error, tool_value
from sundog.operators.mcp.server import MCPServer
from sundog.operators.mcp.sessions import Sessions
from sundog.operators.mcp.tool_set import MCPServerSpec, check_server_spec, server_tools, tool_step
from sundog.secrets import PATTERN, Secrets

PROGRAM_CONCURRENCY = 8
"""Calls in flight on a program, where the flow says nothing: it runs on the cores here."""


def _are_arguments(value: Any) -> Any:
    if isinstance(value, Mapping) or (isinstance(value, Template) and value.is_expression):
        return value
    raise ValueError("must be a mapping of arguments, or one expression that gives one")


class MCPSpec(MCPServerSpec):
    """One use of a tool."""

    allows_secrets = frozenset({"env", "url", "headers", "arguments"})

    #: The tool's name.
    tool: str = Field(min_length=1)
    #: Its arguments by name, or one template that gives them.
    arguments: Annotated[Argument, AfterValidator(_are_arguments)] = Field(default_factory=dict)
    #: False where the tool changes nothing, so that equal calls are one and a failed one is tried again.
    effect: bool = True


class MCPOperator:
    """Tools of MCP servers; it keeps one connection to each server that keeps no state."""

    name = "mcp"
    Spec: type[OperatorSpec] = MCPSpec
    ServerSpec: type[OperatorSpec] = MCPServerSpec

    def __init__(self, base_dir: Path) -> None:
        self._base_dir = base_dir
        self._sessions = Sessions(base_dir)

    def check(self, spec: MCPSpec, engines: Mapping[str, EngineBlock]) -> None:
        if find_spec("mcp") is None:
            raise FlowError("an mcp step needs the package 'mcp'", hint="pip install 'sundog[mcp]'")
        check_server_spec(spec)
        if "{{" in spec.tool or "{%" in spec.tool:
            raise FlowError("the name of a tool is no template", where="tool", hint="write one step for each tool")
        check_secrets(spec.arguments)

    def traits(self, spec: MCPSpec) -> Traits:
        written = spec.effect if "effect" in spec.model_fields_set else None
        reach = reach_of(ToolAnnotationsTold(), effect=written, trust=False)
        pool = spec.address.pool
        return Traits(
            Sharing.RUN if reach.is_shared else Sharing.NEVER,
            pool=pool,
            is_effect=reach.is_effect,
            resource=pool,
            writes=reach.is_effect,
            max_concurrency=spec.max_sessions if spec.stateful else PROGRAM_CONCURRENCY,
            is_limit_of_process=spec.address.url is None,
            retries=0 if reach.is_effect else 2,
            reason=reach.reason,
            payload=_payload_form(spec),
        )

    def address_of(self, spec: MCPSpec) -> str:
        return spec.address.pool

    def pool_at(self, address: str) -> str | None:
        return address if address.startswith(POOL_PREFIX) else None

    def bound_to_machine(self, spec: MCPSpec) -> Finding | None:
        if not spec.command:
            return None
        return Finding(f"each process starts the program '{spec.command[0]}' for itself: what it keeps is its own")

    def shape(self, spec: MCPSpec) -> Shape:
        return Record.of(text=Scalar("str"), json=Anything(), parts=ListOf(Anything()), misfit=Scalar())

    def bind(self, spec: MCPSpec, scope: Scope, engines: Mapping[str, Mapping[str, Any]]) -> BoundCall:
        return BoundCall(
            {
                "command": list(spec.command),
                "env": spec.env,
                "url": spec.url,
                "headers": spec.headers,
                "tool": spec.tool,
                "arguments": _mapping(render_argument(spec.arguments, scope)),
                "secrets": secret_places(spec.arguments),
                "is_effect": spec.effect,
                "is_stateful": spec.stateful,
            }
        )

    async def inspect(self, spec: MCPSpec, given: Inspection) -> Sequence[Finding]:
        try:
            # All steps on one server look at one list.
            listed = await self._sessions.shared(spec.address, given.secrets).open()
        except OperatorError as error:
            if error.retryable:
                raise
            return [Finding(error.what, error.hint, is_fatal=True)]
        tool = listed.tool(spec.tool)
        if tool is None:
            return [_missing(spec.tool, dict(listed.left_out), [one.name for one in listed.tools])]
        return [*_argument_findings(tool, given), *_annotation_findings(tool, spec)]

    async def run(self, call: BoundCall, context: CallContext) -> Outcome:
        payload = call.payload
        address = ServerAddress(
            tuple(payload["command"]), tuple(payload["env"].items()), payload["url"], tuple(payload["headers"].items())
        )
        is_effect = payload["is_effect"]
        attempt = _Attempt()
        try:
            async with asyncio.timeout(context.timeout_s):
                if payload["is_stateful"]:
                    async with self._sessions.own(address, context.secrets) as server:
                        value = await attempt.run(server, payload, context)
                else:
                    value = await attempt.run(self._sessions.shared(address, context.secrets), payload, context)
        except TimeoutError:
            is_unknown = is_effect and attempt.has_begun
            raise OperatorError(
                f"no result within {context.timeout_s:g} s",
                hint="the tool may or may not have acted" if is_unknown else None,
                retryable=not is_unknown,
                is_outcome_unknown=is_unknown,
            ) from None
        except OperatorError as error:
            raise redact_error(error, context.secrets) from None
        return Outcome(context.secrets.redact_all(value))

    async def close(self) -> None:
        await self._sessions.close()

    def check_server(self, spec: MCPServerSpec) -> None:
        if find_spec("mcp") is None:
            raise FlowError("the tools of an MCP server need the package 'mcp'", hint="pip install 'sundog[mcp]'")
        check_server_spec(spec)

    async def list_tools(self, spec: MCPServerSpec, secrets: Secrets) -> ServerTools:
        return await server_tools(spec, self._base_dir, secrets)

    def tool_step(self, spec: MCPServerSpec, tool: ServerTool, *, effect: bool | None, trust: bool) -> dict[str, Any]:
        return tool_step(spec, tool, effect=effect, trust=trust)


def _payload_form(spec: MCPSpec) -> PayloadForm:
    return PayloadForm({"server": spec.address.pool, "tool": spec.tool}, held_templates(spec.arguments, "arguments"))


def _mapping(arguments: Any) -> Any:
    if isinstance(arguments, dict):
        return arguments
    raise OperatorError(
        f"the arguments of a tool are a mapping, no {type(arguments).__name__}", hint="mend 'arguments'"
    )


class _Attempt:
    """One use of a tool; it knows whether the request may have left."""

    def __init__(self) -> None:
        self.has_begun = False

    async def run(self, server: MCPServer, payload: Mapping[str, Any], context: CallContext) -> dict[str, Any]:
        """Return the step's value; OperatorError where there is none."""
        arguments = reveal_argument(payload["arguments"], payload["secrets"], context.secrets)
        listed = await server.open()
        self.has_begun = True
        result = await server.call(payload["tool"], arguments, is_effect=payload["is_effect"])
        if result.is_error:
            raise tool_error(result)
        return tool_value(result, listed.tool(payload["tool"]), is_effect=payload["is_effect"])


def _missing(name: str, left_out: Mapping[str, str], known: Sequence[str]) -> Finding:
    if name in left_out:
        return Finding(f"its arguments and results are not checked: {left_out[name]}")
    return Finding(f"the server has no tool '{name}'", suggest(name, [*known, *left_out]), is_fatal=True)


def _argument_findings(tool: ListedTool, given: Inspection) -> list[Finding]:
    """Return how many rows have arguments that the tool does not take."""
    schema = json.dumps(tool.parameters)
    wrong: dict[int, str] = {}
    for row, calls in given.calls.items():
        for call in calls:
            arguments = call.payload["arguments"]
            # A secret stands for its value here.
            if PATTERN.search(json.dumps(arguments)) is None and (why := _mistake(arguments, schema)) is not None:
                wrong.setdefault(row, why)
    if not wrong:
        return []
    row, first = next(iter(wrong.items()))
    what = f"{given.rows(len(wrong))} have arguments that the tool '{tool.name}' does not take (row {row}: {first})"
    return [Finding(what[:500], "its server names their schema", is_fatal=len(wrong) == given.num_rows)]


def _mistake(arguments: Any, schema: str) -> str | None:
    try:
        return find_answer_mistake(arguments, schema)
    except (ValueError, RecursionError):
        return None


def _annotation_findings(tool: ListedTool, spec: MCPSpec) -> list[Finding]:
    """Return where the server's word and the flow's are not the same."""
    told = reach_of(tool.annotations, effect=None, trust=True)
    if spec.effect and told.is_shared and "effect" not in spec.model_fields_set:
        return [Finding(f"{told.reason}, and the step takes it for an effect", "write effect: false, or effect: true")]
    if not spec.effect and tool.annotations.is_read_only is False and not tool.annotations.is_idempotent:
        what = f"the server says that '{tool.name}' changes something, and the step says effect: false"
        return [Finding(what, "equal calls of a run are one call, and failed ones are repeated")]
    return []
