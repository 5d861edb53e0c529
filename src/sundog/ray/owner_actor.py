"""An owner of call keys as a Ray actor, and the line to it.

Owns what crosses between processes, and the log that each life of an owner has. What an owner does is in
`sundog.cells.owning`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sundog.cells.messages import CellTask
from sundog.cells.owning.host import OwnerHost, hosted_owner
from sundog.cells.owning.line import LineLost
from sundog.cluster.asking import OwnerReply
from sundog.cluster.owner_events import AskerBeat, BatchAsked, NewsAsked
from sundog.config import read_config
from sundog.errors import SundogError
from sundog.store.segments.opened import state_cache
from sundog.store.segments.sending import Overtaken


class OwnerActor:
    """One owner. Ray starts it again where it is lost, and then it has a new log and all that the old ones hold."""

    def __init__(self, task: CellTask, place: int) -> None:
        self._task = task
        self._log = f"{task.command}.owner-{place}"
        self._opened = AsyncExitStack()
        self._beginning: asyncio.Future[OwnerHost] | None = None

    async def begin(self) -> None:
        """Begin before the first question."""
        await self._host()

    async def ask(self, batch: BatchAsked) -> Sequence[OwnerReply]:
        """Return the answer of a batch."""
        return await (await self._host()).ask(batch)

    async def listen(self, asked: NewsAsked, timeout_s: float) -> Sequence[OwnerReply]:
        """Return the news of a cell."""
        return await (await self._host()).listen(asked, timeout_s)

    async def beat(self, beat: AskerBeat) -> Sequence[OwnerReply]:
        """Let a cell live on."""
        return await (await self._host()).beat(beat)

    async def gone(self, cell: str) -> None:
        """Let others make the calls of a cell that has ended."""
        (await self._host()).gone(cell)

    async def close(self) -> None:
        """Write all that is left into the log."""
        if self._beginning is not None:
            await self._opened.aclose()

    def _host(self) -> asyncio.Future[OwnerHost]:
        if self._beginning is None:
            self._beginning = asyncio.ensure_future(self._begin())
        return self._beginning

    async def _begin(self) -> OwnerHost:
        task = self._task
        folder = await asyncio.to_thread(lambda: read_config(task.state).state_dir)
        cache = state_cache(folder)
        assert cache is not None, "the state lies at a URL"
        for name in await asyncio.to_thread(cache.logs_beside, task.command):
            if name.startswith(f"{self._log}-"):
                await asyncio.to_thread(cache.seal, name)
        cells_before = task.num_cells if ray.get_runtime_context().was_current_actor_reconstructed else 0
        name = f"{self._log}-{uuid4().hex[:8]}"
        host = await self._opened.enter_async_context(hosted_owner(folder, name, cells_before))
        # As a cell does: a driver that came meanwhile has sealed the log, or is seen here.
        await asyncio.to_thread(cache.read, [task.command])
        if cache.epoch(task.command) != task.driver_epoch:
            raise Overtaken(task.command)
        return host


class RayOwnerLine:
    """The line to an owner in an actor."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    async def ask(self, batch: BatchAsked) -> Sequence[OwnerReply]:
        """Return the answer of a batch, as OwnerLine says."""
        return await _heard(self.actor.ask.remote(batch))

    async def listen(self, asked: NewsAsked, timeout_s: float) -> Sequence[OwnerReply]:
        """Return the news of a cell, as OwnerLine says."""
        return await _heard(self.actor.listen.remote(asked, timeout_s))

    async def beat(self, beat: AskerBeat) -> Sequence[OwnerReply]:
        """Let the owner know that a cell lives, as OwnerLine says."""
        return await _heard(self.actor.beat.remote(beat))


def start_owner(task: CellTask, place: int) -> RayOwnerLine:
    """Return the line to an owner on this machine."""
    actor: Any = ray.remote(OwnerActor)
    # With the machine of the driver the run ends in any case. The loss of another one, which Ray notices after 15
    # seconds, would have all cells wait for their owner.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    owner = actor.options(
        name=f"{task.record.run_id}/owner-{place}",
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=0,
        scheduling_strategy=here,
    ).remote(task, place)
    # Ray finds an actor at the first word to it, and needs the head for that: the last word may come without one.
    owner.begin.remote()
    return RayOwnerLine(owner)


async def _heard(replies: Awaitable[Sequence[OwnerReply]]) -> Sequence[OwnerReply]:
    try:
        return await replies
    except RayTaskError as error:
        if isinstance(error.cause, SundogError):
            raise error.cause from error
        raise
    except RayError as error:
        raise LineLost from error
