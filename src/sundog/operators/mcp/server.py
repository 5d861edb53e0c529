"""One connected MCP server: the task that owns its connection, and calls from any other task.

Owns opening, ending and the meaning of what goes wrong with a call. Scopes of the protocol's library end in the task
that began them, so one task of this class enters them and leaves them; calls share the connection. Never repeats a
call, and never reopens: whoever holds it opens another one once `is_usable` is false.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sundog.errors import OperatorError, error_text
from sundog.operators.arguments import reveal_text
from sundog.operators.mcp.address import ServerAddress
from sundog.operators.mcp.catalog import ToolList, tools_of
from sundog.operators.mcp.program import MAX_MESSAGE_BYTES, Program
from sundog.secrets import Secrets

if TYPE_CHECKING:
    import httpx2
    from mcp import CallToolRequest, Client
    from mcp.client._transport import Transport
    from mcp_types import CallToolResult

OPEN_TIMEOUT_S = 30.0
"""Seconds for starting a server, the handshake and its list of tools."""
_NUM_SHOWN_MISTAKES = 3

# Without a handler the library's complaints, which may show parts of messages, would go to the terminal.
logging.getLogger("mcp").addHandler(logging.NullHandler())


class MCPServer:
    """This class owns one connection to the server at `address`; `open` is called once, then `call` at will."""

    def __init__(self, address: ServerAddress, folder: Path, secrets: Secrets) -> None:
        self._address = address
        self._folder = folder
        self._secrets = secrets
        self._program: Program | None = None
        self._client: Client | None = None
        self._owner: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[ToolList] | None = None
        self._closing = asyncio.Event()
        self._opening: asyncio.Timeout | None = None
        self._has_broken = False
        #: The status of the last answer that was a failure.
        self._refusal: str | None = None

    @property
    def is_usable(self) -> bool:
        """Return whether a new call may go to it."""
        if self._has_broken or self._closing.is_set():
            return False
        return self._program is None or self._client is None or self._program.is_alive

    async def open(self) -> ToolList:
        """Return its tools once it is connected; OperatorError where it cannot be. Any task may wait here; one that is
        cancelled leaves the others waiting."""
        if self._opened is None:
            self._opened = asyncio.get_running_loop().create_future()
            self._owner = asyncio.create_task(self._own(self._opened), name=f"mcp {self._address.shown}")
        return await asyncio.shield(self._opened)

    async def call(self, tool: str, arguments: Mapping[str, Any], *, is_effect: bool) -> CallToolResult:
        """Return the tool's result as the server sent it, checked against no schema of the tool's; OperatorError where
        there is none."""
        from mcp import MCPError
        from pydantic import ValidationError

        await self.open()
        assert self._client is not None, "it is open"
        try:
            result = await self._client.session.send_request(_request(tool, arguments), _result_adapter())
        except MCPError as error:
            raise self._fault(error, is_effect=is_effect) from None
        except ValidationError:
            raise OperatorError(
                f"the server {self._address.shown} answered with what is no result of a tool",
                hint="its answer breaks the protocol",
                is_outcome_unknown=is_effect,
            ) from None
        if result.result_type == "input_required":
            raise OperatorError(
                "the server asks a question back, and there is nobody to answer",
                hint="give the tool all that it needs as arguments",
            )
        return cast("CallToolResult", result)

    async def close(self) -> None:
        """End the connection, and the program where there is one; it may be called at any time, and twice."""
        self._closing.set()
        if self._opening is not None:
            self._opening.reschedule(asyncio.get_running_loop().time())
        if self._owner is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(self._owner)

    async def _own(self, opened: asyncio.Future[ToolList]) -> None:
        try:
            # The library takes half a second, in which nothing else would go on.
            await asyncio.to_thread(import_module, "mcp")
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(OPEN_TIMEOUT_S) as self._opening:
                    client = await stack.enter_async_context(self._connection())
                    tools = await tools_of(client)
                self._client, self._opening = client, None
                if not opened.done():
                    opened.set_result(tools)
                await self._closing.wait()
        except asyncio.CancelledError:
            if not opened.done():
                opened.cancel()
            raise
        except BaseException as error:  # groups of anyio hold errors of any kind
            if not opened.done():
                opened.set_exception(self._cannot_open(error))
                opened.exception()  # whoever waited may be gone
        finally:
            self._has_broken, self._opening = True, None

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Client]:
        from mcp import Client

        async with contextlib.AsyncExitStack() as stack:
            client = Client(await self._transport(stack), cache=None)
            yield await stack.enter_async_context(client)

    async def _transport(self, stack: contextlib.AsyncExitStack) -> Transport:
        if self._address.url is None:
            env = {name: reveal_text(value, self._secrets) for name, value in self._address.env}
            self._program = Program(self._address.command, env, self._folder)
            return self._program.transport()
        from mcp.client.streamable_http import streamable_http_client

        from sundog.operators.mcp.web import web_client

        headers = {name: reveal_text(value, self._secrets) for name, value in self._address.headers}
        client: httpx2.AsyncClient = await stack.enter_async_context(web_client(headers, self._refused))
        url = reveal_text(self._address.url, self._secrets)
        return streamable_http_client(url, http_client=client, max_sse_event_size=MAX_MESSAGE_BYTES)

    def _cannot_open(self, error: BaseException) -> OperatorError:
        cause = _first(error)
        if isinstance(cause, OperatorError):
            return cause
        if self._closing.is_set():
            what = "was stopped before it came up"
        elif isinstance(cause, TimeoutError):
            what = f"did not come up within {OPEN_TIMEOUT_S:g} s"
        elif (broken := _broken_list(cause)) is not None:
            what = f"lists its tools in a form that breaks the protocol: {self._secrets.redact(broken)}"
        elif self._program is not None and self._program.end is not None:
            what = f"cannot be used: {self._program.end}"
        else:
            what = f"cannot be used: {error_text(cause, self._secrets.redact)}"
        return OperatorError(f"the server {self._address.shown} {what}", hint=self._said(), retryable=True)

    def _fault(self, error: Any, *, is_effect: bool) -> OperatorError:
        """Return the fault of a call that the library ended with an error of the protocol."""
        from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND

        told = self._secrets.redact(str(error))[:500]
        if error.code in (INVALID_PARAMS, METHOD_NOT_FOUND):
            return OperatorError(f"the server {self._address.shown} refuses the call: {told}")
        self._has_broken = self._has_broken or _ends_connection(error)
        ended = self._program is not None and self._program.end
        why = f"failed while it was at the call: {ended}" if ended else f"failed: {told}"
        said = self._said()
        doubt = "the tool may or may not have acted" if is_effect else None
        return OperatorError(
            f"the server {self._address.shown} {why}",
            hint="; ".join(part for part in (doubt, said) if part) or None,
            retryable=not is_effect,
            is_outcome_unknown=is_effect,
        )

    def _refused(self, status: str) -> None:
        self._refusal = status

    def _said(self) -> str | None:
        if self._refusal is not None:
            return f"it has answered {self._refusal}"
        said = "" if self._program is None else self._secrets.redact(self._program.said())
        return f"it says: {said}" if said else None


def _ends_connection(error: Any) -> bool:
    from mcp_types import CONNECTION_CLOSED

    return error.code == CONNECTION_CLOSED or "Session terminated" in str(error)


def _broken_list(error: BaseException) -> str | None:
    """Return the first mistakes in an answer that breaks the protocol, None for any other error. Its list of tools is
    the only answer whose content is checked before there are calls."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return None
    mistakes = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in mistakes[:_NUM_SHOWN_MISTAKES]]
    more = len(mistakes) - len(shown)
    return "; ".join([*shown, f"and {more:,} more"] if more else shown)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _request(tool: str, arguments: Mapping[str, Any]) -> CallToolRequest:
    from mcp import CallToolRequest
    from mcp_types import CallToolRequestParams

    return CallToolRequest(params=CallToolRequestParams(name=tool, arguments=dict(arguments)))


def _result_adapter() -> Any:
    from mcp_types import CallToolResult, InputRequiredResult
    from pydantic import TypeAdapter

    return TypeAdapter(CallToolResult | InputRequiredResult)
