"""The state of the servers that were started here.

Owns the words for their state. Never changes anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sundog.engines.served import ReplicaLoad
from sundog.engines.vllm.health import probe
from sundog.errors import EngineError
from sundog.servers.local_pages import LocalPages
from sundog.servers.records import ServerRecord, is_alive

ServerState = Literal["ready", "starting", "gone"]


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The state of one server."""

    record: ServerRecord
    #: `gone` when its process has ended, `starting` while it lives and is not healthy.
    state: ServerState
    #: Where it is ready; else None.
    load: ReplicaLoad | None = None

    @property
    def figures(self) -> str:
        """Return the load in words, empty where the server tells none."""
        load = self.load
        if load is None:
            return ""
        hit_rate = load.num_cached_tokens / load.num_queried_tokens if load.num_queried_tokens else 0.0
        return (
            f"{load.num_running} running, {load.num_waiting} waiting, {load.kv_usage:.0%} of KV blocks, "
            f"{hit_rate:.0%} of prompt tokens cached, {load.num_preemptions} preemptions"
        )

    def to_json(self) -> dict[str, Any]:
        record = self.record
        known = {"engine": record.engine, "replica": record.place, "state": self.state, "base_url": record.base_url}
        return {**known, "pid": record.pid, "load": None if self.load is None else asdict(self.load)}


async def statuses_of(records: Sequence[ServerRecord]) -> list[ServerStatus]:
    """Return the status of each server, all asked at once."""
    pages = LocalPages()
    try:
        return await asyncio.gather(*(_status_of(pages, record) for record in records))
    finally:
        await pages.close()


async def _status_of(pages: LocalPages, record: ServerRecord) -> ServerStatus:
    if not is_alive(record):
        return ServerStatus(record, "gone")
    try:
        return ServerStatus(record, "ready", await probe(pages.get, record.base_url, record.base_url))
    except EngineError:
        return ServerStatus(record, "starting")
