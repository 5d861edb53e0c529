"""Starting and stopping the servers of engine blocks, and finding those that are up.

Owns what `sundog engine` and a run do with servers: at most one for each command and place, waited for until it is
ready. Never restarts one by itself (runtime.health does) and never sends it a request.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sundog.deployment import opened
from sundog.engines.served import ServedKind, ServerCommand
from sundog.errors import ConfigError, EngineUnavailable
from sundog.ir.logical import EngineBlock
from sundog.secrets import Secrets
from sundog.servers.records import (
    ServerRecord,
    ServerRecords,
    end,
    free_port,
    is_alive,
    is_owner_gone,
    new_record,
    processes_of,
    record_key,
)
from sundog.transport.faults import TransportFault

if TYPE_CHECKING:
    from sundog.servers.local_pages import LocalPages

POLL_S = 0.25
POLL_TIMEOUT_S = 5.0
TERM_TIMEOUT_S = 30.0
KILL_TIMEOUT_S = 10.0
OnProgress = Callable[[ServerRecord, str], None]
"""Hears of each server: "up already", "starting", "ready", "stopped"."""


@dataclass(frozen=True, slots=True)
class Site:
    """One server that a block wants."""

    block: EngineBlock
    #: Its replica number.
    place: str
    kind: ServedKind
    options: Any

    def command(self, port: int, secrets: Secrets) -> ServerCommand:
        return self.kind.server(self.options, int(self.place), port, secrets)

    @property
    def name(self) -> str:
        return f"{self.block.name}/{self.place}"


def sites_of(block: EngineBlock) -> list[Site]:
    """Return the servers of a block; none where it has addresses, or is of a kind without servers."""
    kind, options = opened(block)
    if not isinstance(kind, ServedKind):
        return []
    if not kind.needs_server(options):
        return []
    if block.workers is not None:
        hint = "leave `workers` away, or start the servers yourself and give their `base_url`"
        raise ConfigError(f"servers of the engine '{block.name}' cannot be started on workers", hint=hint)
    return [Site(block, str(number), kind, options) for number in range(kind.num_replicas(options))]


class Servers:
    """The servers of one state folder. `on_progress` may be set."""

    def __init__(self, state_dir: Path, secrets: Secrets) -> None:
        self.records = ServerRecords(state_dir)
        self.secrets = secrets
        self.on_progress: OnProgress = lambda record, state: None

    def find(self, site: Site) -> ServerRecord | None:
        """Return the record of a site's server, where its process lives."""
        record = self.records.get(self._key(site))
        return record if record is not None and is_alive(record) else None

    async def up(self, sites: Sequence[Site], *, owner_pid: int | None = None) -> list[ServerRecord]:
        """Return every server ready, those that are up already as they are; EngineUnavailable when one ends or is not
        ready in time. `owner_pid`: of the run that wants them only for itself."""
        records = [await asyncio.to_thread(self._claim, site, owner_pid) for site in sites]
        waits = [asyncio.ensure_future(self.wait_ready(*one)) for one in zip(sites, records, strict=True)]
        try:
            await asyncio.gather(*waits)
        finally:
            for wait in waits:
                wait.cancel()
        return records

    async def wait_ready(self, site: Site, record: ServerRecord) -> None:
        """Wait until the server answers its health page, and say so. EngineUnavailable where it ends before that, or
        takes longer than its command allows."""
        timeout_s = site.command(record.port, self.secrets).ready_timeout_s
        from sundog.servers.local_pages import LocalPages

        pages = LocalPages()
        try:
            async with asyncio.timeout(timeout_s):
                while not await _is_healthy(pages, record):
                    if not is_alive(record):
                        raise self._failure(record, "ended before it was ready")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise self._failure(record, f"was not ready in {timeout_s:g} s") from None
        finally:
            await pages.close()
        self.on_progress(record, "ready")

    async def down(self, records: Sequence[ServerRecord]) -> None:
        """End servers and all their processes: politely, then by force."""
        await asyncio.gather(*(self._stop(record) for record in records))

    async def restart(self, site: Site, record: ServerRecord) -> ServerRecord:
        """Start a server again at its address; what is left of it is ended first. It is not ready yet."""
        await self._end(record, (signal.SIGKILL,))
        command = site.command(record.port, self.secrets)
        fresh = new_record(site.block.name, site.place, record.model, command, record.port, record.key)
        owner_pid = None if record.owner_pid is None else os.getpid()
        return self.records.spawn(replace(fresh, owner_pid=owner_pid), command)

    def _claim(self, site: Site, owner_pid: int | None) -> ServerRecord:
        """Return the site's server, started if its process does not live."""
        key = self._key(site)
        with self.records.locked():
            record = self.records.get(key)
            if record is not None and is_alive(record):
                if owner_pid is None or is_owner_gone(record):
                    # A run's server is kept by `engine up`, and taken over from a run that was killed.
                    record = replace(record, owner_pid=owner_pid)
                    self.records.put(record)
                self.on_progress(record, "up already")
                return record
            if record is not None:
                end(record, signal.SIGKILL)
            port = free_port()
            command = site.command(port, self.secrets)
            record = new_record(site.block.name, site.place, site.options.model, command, port, key)
            record = self.records.spawn(replace(record, owner_pid=owner_pid), command)
        self.on_progress(record, "starting")
        return record

    async def _stop(self, record: ServerRecord) -> None:
        await self._end(record, (signal.SIGTERM, signal.SIGKILL))
        self.records.forget(record)
        self.on_progress(record, "stopped")

    async def _end(self, record: ServerRecord, signals: Sequence[signal.Signals]) -> None:
        for number in signals:
            end(record, number)
            with_timeout_s = TERM_TIMEOUT_S if number is signal.SIGTERM else KILL_TIMEOUT_S
            if await _gone_in(record, with_timeout_s):
                return
        raise EngineUnavailable(f"the server of '{record.engine}' does not end", hint=f"look at process {record.pid}")

    def _failure(self, record: ServerRecord, what: str) -> EngineUnavailable:
        tail = self.secrets.redact(self.records.log_tail(record))
        last = "\n  ".join(tail.splitlines()[-8:])
        where = str(self.records.log_path(record))
        return EngineUnavailable(f"the server {record.engine}/{record.place} {what}", where=where, hint=last or None)

    def _key(self, site: Site) -> str:
        return record_key(site.command(0, self.secrets).identity, site.place)


async def _is_healthy(pages: LocalPages, record: ServerRecord) -> bool:
    try:
        return (await pages.get(record.health_url, within_s=POLL_TIMEOUT_S)).status == 200
    except TransportFault:
        return False


async def _gone_in(record: ServerRecord, timeout_s: float) -> bool:
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    while processes_of(record):
        if loop.time() > deadline_s:
            return False
        await asyncio.sleep(POLL_S)
    return True
