"""The servers of engines that a run starts on its Ray cluster, each an actor in a placement group of its own.

Owns which of them there are, and what is heard of them. How many there should be is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from sundog.deployment import pool_of
from sundog.errors import EngineUnavailable, RunError, SundogError
from sundog.ir.logical import EngineBlock
from sundog.ray.engine_actor import EngineActor
from sundog.servers.replica_watch import ReplicaFound, ReplicaLeaving, ReplicaNews, ReplicaVanished

MAX_FAILURES = 3
"""So many servers that end by themselves soon after their start, one after the other, end the run."""
LASTING_S = 60.0
"""A server that has served for so long was started well."""
RETRY_S = 2.0
END_S = 20.0
LOOK_S = 2.0
"""Ray is asked so often which machines will be taken away."""


class _Server:
    """One server, or the one that will come."""

    def __init__(self, actor: Any, group: Any) -> None:
        self.actor = actor
        self.group = group
        #: None until it serves.
        self.url: str | None = None
        self.node = ""
        self.is_leaving = False
        self.task: asyncio.Task[None] | None = None


class RayEngines:
    """This class starts and ends the servers of one engine: an EngineStarter."""

    def __init__(self, block: EngineBlock, environment: Mapping[str, str]) -> None:
        """`environment`: the values that the block names as `${env:NAME}`."""
        pool = pool_of(block)
        assert pool is not None, f"{block.name} has no pool"
        assert pool.ray is not None, f"the servers of {block.name} are started by others"
        self._block = block
        self._environment = dict(environment)
        self._room = {"CPU": pool.ray.cpus} | ({"GPU": pool.ray.gpus} if pool.ray.gpus else {})
        self._class: Any = ray.remote(EngineActor)
        self._news: asyncio.Queue[ReplicaNews | SundogError] = asyncio.Queue()
        self._servers: list[_Server] = []
        self._taken: set[str] = set()
        self._num_wanted = 0
        self._num_failures = 0
        self._is_closed = False

    def want(self, num_engines: int) -> None:
        """Have so many servers, as EngineStarter says."""
        self._num_wanted = num_engines
        self._fill()

    def end(self, base_url: str) -> None:
        """End a server, as EngineStarter says."""
        for server in self._servers:
            if server.url == base_url and server.task is not None:
                server.task.cancel()

    async def watch(self) -> AsyncGenerator[ReplicaNews, None]:
        """Yield what happens, as ReplicaWatch says. SundogError where servers do not start."""
        looking = asyncio.ensure_future(self._look_at_machines())
        try:
            while True:
                news = await self._news.get()
                if isinstance(news, SundogError):
                    raise news
                yield news
        finally:
            looking.cancel()

    async def close(self) -> None:
        """End all servers, and return once they have ended."""
        self._is_closed = True
        tasks = [server.task for server in self._servers if server.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fill(self) -> None:
        """Start what is missing, and give up what has not started and is wanted no more."""
        staying = [server for server in self._servers if not server.is_leaving]
        num_above = len(staying) - self._num_wanted
        coming = [server for server in staying if server.url is None and server.task is not None]
        for server in coming[::-1][: max(0, num_above)]:
            server.is_leaving = True
            assert server.task is not None, "it was asked for above"
            server.task.cancel()
        for _ in range(0 if self._is_closed else -num_above):
            server = self._begin()
            self._servers.append(server)
            server.task = asyncio.ensure_future(self._live(server))

    def _begin(self) -> _Server:
        group = placement_group([self._room], strategy="STRICT_PACK")
        actor = self._class.options(
            num_cpus=self._room["CPU"],
            num_gpus=self._room.get("GPU", 0),
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0),
        ).remote(self._block, self._environment)
        return _Server(actor, group)

    async def _live(self, server: _Server) -> None:
        """Follow a server from its start to its end."""
        began_s = time.monotonic()
        try:
            server.url, server.node = await server.actor.start.remote(tuple(self._taken))
            self._taken.add(server.url)
            began_s = time.monotonic()
            self._news.put_nowait(ReplicaFound(server.url))
            failure: SundogError = await server.actor.watch.remote()
            self._failed(failure, time.monotonic() - began_s)
        except RayTaskError as error:
            cause = error.cause
            if not isinstance(cause, SundogError):
                cause = RunError(f"a server of the engine '{self._block.name}' failed: {error}")
            self._failed(cause, 0.0)
            await asyncio.sleep(RETRY_S)
        except RayError:
            """Its machine or its process was lost; that tells nothing of its command."""
            if server.url is None:
                await asyncio.sleep(RETRY_S)
        finally:
            server.is_leaving = True
            await self._clear(server)
            self._servers.remove(server)
            if server.url is not None:
                self._news.put_nowait(ReplicaVanished(server.url))
            self._fill()

    async def _clear(self, server: _Server) -> None:
        """End what is left of a server. With its actor its process ends in any case."""
        if server.url is not None:
            with suppress(RayError, TimeoutError):
                async with asyncio.timeout(END_S):
                    await server.actor.stop.remote()
        ray.kill(server.actor)
        remove_placement_group(server.group)

    def _failed(self, failure: SundogError, lasted_s: float) -> None:
        """Count a server that has ended by itself, and give up where none starts."""
        self._num_failures = 1 if lasted_s >= LASTING_S else self._num_failures + 1
        if self._num_failures >= MAX_FAILURES or not isinstance(failure, EngineUnavailable):
            self._news.put_nowait(failure)

    async def _look_at_machines(self) -> None:
        """Tell of servers whose machine will be taken away."""
        while True:
            await asyncio.sleep(LOOK_S)
            drained = await asyncio.to_thread(draining_nodes)
            for server in self._servers:
                if server.node in drained and server.url is not None and not server.is_leaving:
                    server.is_leaving = True
                    self._news.put_nowait(ReplicaLeaving(server.url))


def draining_nodes() -> frozenset[str]:
    """Return the ids of the machines that Ray drains: what notices of a cloud, and its autoscaler, lead to."""
    # Ray has no public means for it; Ray Serve reads the same.
    from ray._private.state import state

    drained: dict[str, int] = state.get_draining_nodes()
    return frozenset(drained)
