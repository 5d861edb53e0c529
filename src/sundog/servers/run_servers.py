"""A run's view of the servers that its engines need.

Owns which server each replica has, and the end of those that were started for this run. Starting and stopping is
servers.servers'.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sundog.engines.base import Engine
from sundog.errors import ConfigError
from sundog.ir.logical import EngineBlock
from sundog.servers.records import ServerRecord
from sundog.servers.servers import Servers, Site, sites_of


class RunServers:
    """Replicas are named as in the core: engine/number."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._places: dict[str, tuple[Site, ServerRecord]] = {}

    async def up(self, blocks: Sequence[EngineBlock]) -> None:
        """Wait for the servers of the blocks; start those that may be started by a run. ConfigError when others are
        not up: a user who starts servers decides when."""
        for block in blocks:
            sites = sites_of(block)
            missing = [site for site in sites if self._servers.find(site) is None]
            if missing and not missing[0].kind.starts_by_itself(missing[0].options):
                raise ConfigError(
                    f"the engine '{block.name}' has {len(missing)} of {len(sites)} servers down",
                    where=block.location,
                    hint=f"start them: sundog engine up FLOW --engine {block.name}; or give the engine `start: true`, "
                    "then each run starts and stops them",
                )
            for site, record in zip(sites, await self._servers.up(sites, owner_pid=os.getpid()), strict=True):
                self._places[site.name] = site, record

    def attach(self, replica_id: str) -> Engine | None:
        """Return the engine of a replica whose server is ours, not started; None where it has none."""
        place = self._places.get(replica_id)
        if place is None:
            return None
        site, record = place
        return site.kind.attach(site.options, record.base_url, self._servers.secrets)

    async def down(self) -> None:
        """Stop those that were started for this run."""
        own = [record for _, record in self._places.values() if record.owner_pid == os.getpid()]
        self._places.clear()
        await self._servers.down(own)

    def is_ours(self, replica_id: str) -> bool:
        """Return whether the replica has a server of ours that nobody has stopped meanwhile (`sundog engine down`)."""
        place = self._places.get(replica_id)
        return place is not None and self._servers.records.get(place[1].key) is not None

    def is_alive(self, replica_id: str) -> bool:
        site, _ = self._places[replica_id]
        return self._servers.find(site) is not None

    async def restart(self, replica_id: str) -> None:
        """Start the server of a replica again and wait until it is ready; EngineUnavailable when it is not."""
        site, record = self._places[replica_id]
        fresh = await self._servers.restart(site, record)
        self._places[replica_id] = site, fresh
        await self._servers.wait_ready(site, fresh)

    @asynccontextmanager
    async def serving(self, blocks: Sequence[EngineBlock]) -> AsyncIterator[None]:
        """The servers of the blocks, while the context lasts."""
        try:
            await self.up(blocks)
            yield
        finally:
            await self.down()
