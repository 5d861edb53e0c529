"""A server that is a program: its process, and messages over its standard input and output.

Owns the process from its start to its end. The protocol's library has such a transport too; it keeps a line of any
length, which a server that floods would use up the memory with, and lets the program write into the user's terminal.
Here a line is bounded, and the end of what the program says on its standard error is kept for messages.

The process leads a group of its own, so that a signal from the terminal reaches it through `close` alone: its input is
closed, after 2 s the group gets SIGTERM, after 2 s more SIGKILL. On Linux the kernel kills it when this process dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sundog.errors import OperatorError

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

MAX_MESSAGE_BYTES = 16 * 2**20
"""A page of a server's list with 200 schemas of 64 KiB is the longest message that has a reason."""
GRACE_S = 2.0
POLL_S = 0.01
MAX_TAIL_BYTES = 2_000
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Program:
    """This class runs one program. `env` is added to the plain variables of the protocol's library."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self._command = command
        self._env = env
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._tail = bytearray()
        #: The reason why nothing more can be read from it, as a phrase; None while it can.
        self.end: str | None = None

    @property
    def is_alive(self) -> bool:
        return self.end is None and self._process is not None and self._process.returncode is None

    def said(self) -> str:
        """Return the last lines that it wrote on its standard error, or that were no messages; empty for none."""
        return " ".join(bytes(self._tail).decode("utf-8", "replace").split())[-400:]

    @contextlib.asynccontextmanager
    async def transport(self) -> AsyncIterator[TransportStreams]:
        """Start it, and give the streams that the library reads and writes; OperatorError where it cannot start."""
        import anyio
        from mcp.shared.message import SessionMessage

        process = await self._start()
        to_session, read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write_stream, from_session = anyio.create_memory_object_stream[SessionMessage](0)
        tasks = [
            asyncio.create_task(self._read(process, to_session)),
            asyncio.create_task(self._write(process, from_session, to_session)),
            asyncio.create_task(self._listen(process)),
        ]
        try:
            yield read_stream, write_stream
        finally:
            await self._stop(process, tasks)
            for stream in (read_stream, write_stream, to_session, from_session):
                stream.close()

    async def _start(self) -> asyncio.subprocess.Process:
        from mcp.client.stdio import get_default_environment

        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=MAX_MESSAGE_BYTES,
                env={**get_default_environment(), **self._env},
                cwd=self._folder,
                start_new_session=True,
                preexec_fn=_death_with_parent(),
            )
        except (OSError, ValueError) as error:
            raise OperatorError(
                f"the program '{self._command[0]}' cannot be started: {getattr(error, 'strerror', None) or error}",
                hint="a command is a program and its arguments; paths begin in the flow's folder",
            ) from None
        return self._process

    async def _read(self, process: asyncio.subprocess.Process, to_session: Any) -> None:
        from mcp.shared.message import SessionMessage
        from mcp_types import jsonrpc_message_adapter

        assert process.stdout is not None, "started with pipes"
        try:
            while line := await process.stdout.readline():
                try:
                    message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValueError:  # a print in a server's code, mostly
                    self._keep(line)
                    continue
                await to_session.send(SessionMessage(message))
            self.end = self.end or "it ended"
        except ValueError:  # a line past the limit
            self.end = f"it sent a message of more than {MAX_MESSAGE_BYTES:,} bytes"
        except Exception as error:
            self.end = self.end or f"reading from it failed: {type(error).__name__}"
        finally:
            # The session tells all who wait that the connection has ended.
            to_session.close()

    async def _write(self, process: asyncio.subprocess.Process, from_session: Any, to_session: Any) -> None:
        assert process.stdin is not None, "started with pipes"
        try:
            async for message in from_session:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(text.encode("utf-8", "replace") + b"\n")
                await process.stdin.drain()
        except (OSError, RuntimeError):
            self.end = self.end or "it reads no more"
            to_session.close()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None, "started with pipes"
        while said := await process.stderr.read(65_536):
            self._keep(said)

    def _keep(self, said: bytes) -> None:
        self._tail = bytearray((self._tail + said)[-MAX_TAIL_BYTES:])

    async def _stop(self, process: asyncio.subprocess.Process, tasks: Sequence[asyncio.Task[None]]) -> None:
        try:
            assert process.stdin is not None, "started with pipes"
            process.stdin.close()
            # A server that is blocked on its output would never see that its input has ended.
            tasks[0].cancel()
            drain = asyncio.create_task(_drain(process))
            try:
                if not await _ends(process, GRACE_S) and _signal(process, signal.SIGTERM):
                    await _ends(process, GRACE_S)
            finally:
                drain.cancel()
        finally:
            # Even where this task is being cancelled; children of the program may have outlived it.
            _signal(process, signal.SIGKILL)
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)
            await _ends(process, GRACE_S)
            _close_pipes(process)


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None, "started with pipes"
    with contextlib.suppress(Exception):
        while await process.stdout.read(65_536):
            pass


async def _ends(process: asyncio.subprocess.Process, within_s: float) -> bool:
    """Return whether the program ends in time. `Process.wait` waits for the end of its pipes too, which a child that
    has left the group may hold open for ever."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + within_s
    while process.returncode is None and loop.time() < end_s:  # noqa: ASYNC110 - the loop tells no event of it
        await asyncio.sleep(POLL_S)
    return process.returncode is not None


def _close_pipes(process: asyncio.subprocess.Process) -> None:
    # Nothing public closes pipes that a child of the program still holds.
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> bool:
    """Send a signal to the group that the process leads; return whether there was somebody to get it."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _death_with_parent() -> Callable[[], None] | None:
    """Return what the child does before it becomes the program: ask the kernel to be killed when its parent dies."""
    libc = _LIBC
    if libc is None:
        return None

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return ask
