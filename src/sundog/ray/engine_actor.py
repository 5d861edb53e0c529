"""One server of an engine as a Ray actor: it starts on the machine that Ray chooses, and ends with the actor.

Owns the server's process and the look at its health. How a command is kept is in `sundog.ray.keeper`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO

import ray
import ray.util

from sundog.deployment import pool_server
from sundog.errors import EngineUnavailable
from sundog.ir.logical import EngineBlock
from sundog.ray import keeper
from sundog.secrets import Secrets
from sundog.servers.local_pages import LocalPages
from sundog.servers.records import free_port
from sundog.transport.faults import TransportFault

POLL_S = 0.5
POLL_TIMEOUT_S = 5.0
ILL_AFTER_S = 30.0
"""A server that has not said for so long that it is well is ended; another one takes its place."""
NUM_TOLD_LINES = 8


class EngineActor:
    """One server. Its process ends with that of the actor, however that ends."""

    def __init__(self, block: EngineBlock, environment: Mapping[str, str]) -> None:
        """`environment`: the values that the block names as `${env:NAME}`."""
        self._block = block
        self._secrets = Secrets(environment)
        self._pages = LocalPages()
        self._health_url = ""
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it lasts as long as the actor
        self._keeper: subprocess.Popen[str] | None = None
        self._ended: asyncio.Future[str] | None = None

    async def start(self, taken: Collection[str]) -> tuple[str, str]:
        """Return the base_url of the server, which is none of those `taken`, and the machine's id, once it serves.
        ConfigError where the machine lacks what it needs, EngineUnavailable where it ends before, or takes too long."""
        host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]  # it has no types
        while True:
            port = free_port(host)
            command = await asyncio.to_thread(pool_server, self._block, host, port, self._secrets)
            if command.base_url not in taken:
                break
        self._health_url = command.health_url
        self._ended = asyncio.ensure_future(asyncio.to_thread(self._keep, command.argv, command.environment))
        deadline_s = time.monotonic() + command.ready_timeout_s
        while not await self._is_well():
            if self._ended.done():
                raise self._failure(f"has ended before it was ready, with {self._ended.result()}")
            if time.monotonic() > deadline_s:
                raise self._failure(f"was not ready in {command.ready_timeout_s:g} s")
            await asyncio.sleep(POLL_S)
        return command.base_url, str(ray.get_runtime_context().get_node_id())

    async def watch(self) -> EngineUnavailable:
        """Return why, once the server has ended by itself or is ill."""
        assert self._ended is not None, "it has started"
        well_s = time.monotonic()
        while True:
            await asyncio.wait([self._ended], timeout=POLL_S)
            if self._ended.done():
                return self._failure(f"has ended with {self._ended.result()}")
            if await self._is_well():
                well_s = time.monotonic()
            elif time.monotonic() - well_s > ILL_AFTER_S:
                return self._failure(f"has not been well for {ILL_AFTER_S:.0f} s")

    async def stop(self) -> None:
        """End the server, and return once all of its processes have ended."""
        if self._keeper is not None and self._ended is not None:
            assert self._keeper.stdin is not None, "it is a pipe"
            self._keeper.stdin.close()
            await self._ended

    def _keep(self, argv: tuple[str, ...], environment: Mapping[str, str]) -> str:
        """Run the server, in a thread, until it has ended, and return its exit code."""
        self._keeper = subprocess.Popen(
            # Modules beside the script have names of others.
            [sys.executable, "-I", str(Path(keeper.__file__)), *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **environment},
            start_new_session=True,
            text=True,
        )
        assert self._keeper.stdout is not None, "it is a pipe"
        # The first process ends at once, and leaves the pipes to its child.
        self._keeper.wait()
        return f"exit code {self._keeper.stdout.read().strip() or 'unknown'}"

    async def _is_well(self) -> bool:
        try:
            return (await self._pages.get(self._health_url, within_s=POLL_TIMEOUT_S)).status == 200
        except TransportFault:
            return False

    def _failure(self, what: str) -> EngineUnavailable:
        """Return the error, with the last words of the server."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 8192))
        tail = self._secrets.redact(self._log.read().decode(errors="replace"))
        last = "\n  ".join(tail.splitlines()[-NUM_TOLD_LINES:])
        return EngineUnavailable(f"a server of the engine '{self._block.name}' {what}", hint=last or None)
