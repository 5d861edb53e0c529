"""A cell as a Ray actor, and the line to it.

Owns what crosses between processes. What a cell does is in `sundog.cells`.
"""

from __future__ import annotations

import asyncio
import os
import platform
import threading
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from sundog.cells.cell import Cell
from sundog.cells.messages import CellLine, CellLost, CellNews, CellTask, CellWord
from sundog.cells.owning.line import OwnerLine
from sundog.config import read_config
from sundog.errors import ConfigError, RunError, SundogError
from sundog.execution.calls.guard import run_loop
from sundog.ray.head import HeadWatch
from sundog.ray.owner_actor import RayOwnerLine, start_owner
from sundog.store.segments.storage import ObjectStorage

START_S = 120.0
"""A cell that has not begun after so long has no room on the cluster."""
MAX_LOST = 3
"""So many actors that are lost before their cell begins, one after the other, do not end the run."""
RETRY_S = 1.0
HEARD_S = 2.0
"""So long is an owner waited for that has to hear that a cell is gone: it may be gone itself."""
OWNERS_END_S = 60.0
"""Owners have so long to write what is left."""


@dataclass(frozen=True, slots=True)
class Installed:
    """The versions of a process, which have to be those of the driver."""

    sundog: str
    #: Without the third number: those are compatible.
    python: str
    ray: str

    def __str__(self) -> str:
        return f"sundog {self.sundog}, Python {self.python}, Ray {self.ray}"


def installed_here() -> Installed:
    """Return the versions of this process."""
    return Installed(version("sundog"), ".".join(platform.python_version_tuple()[:2]), ray.__version__)


class CellActor:
    """One cell, in a thread with a loop of its own: a cell that is busy is heard all the same."""

    def __init__(self) -> None:
        self._cell: Cell | None = None

    async def check(self, task: CellTask) -> tuple[Installed, SundogError | None]:
        """Return what is installed here, and why no cell can work here, None where one can."""
        return installed_here(), await asyncio.to_thread(_obstacle, task)

    async def begin(self, task: CellTask, name: str) -> None:
        """Start the cell. Functions of the flow find its files from the working directory: Ray's own is anywhere."""
        os.chdir(task.base_dir)
        cell = self._cell = Cell(task, name, lambda url: read_config(url).state_dir)
        threading.Thread(target=lambda: run_loop(cell.run()), name=name, daemon=True).start()

    async def hear(self, words: tuple[CellWord, ...]) -> None:
        """Take words from the driver."""
        assert self._cell is not None, "it has begun"
        self._cell.hear(words)

    async def news(self) -> CellNews:
        """Return the cell's next news."""
        assert self._cell is not None, "it has begun"
        return await self._cell.news()


class RayLine:
    """The line to a cell in an actor."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    async def tell(self, words: tuple[CellWord, ...]) -> None:
        """Return once the cell has the words; CellLost where it is gone."""
        try:
            await self.actor.hear.remote(words)
        except RayError as error:
            raise CellLost from error

    async def news(self) -> CellNews:
        """Return the next news; CellLost where the cell is gone."""
        try:
            news: CellNews = await self.actor.news.remote()
        except RayError as error:
            raise CellLost from error
        return news

    def end(self) -> None:
        """End the actor's process."""
        ray.kill(self.actor)


class RayCells:
    """Starts cells as actors, spread over the nodes."""

    def __init__(self, num_owners: int) -> None:
        self._num_owners = num_owners
        self._owners: tuple[RayOwnerLine, ...] = ()
        self._class: Any = ray.remote(CellActor)
        self._head = HeadWatch(ray.get_runtime_context().gcs_address)

    async def watch(self) -> None:
        """Return never; RunError where the head of the cluster is lost."""
        await self._head.follow()

    async def start_owners(self, task: CellTask) -> tuple[OwnerLine, ...]:
        """Return the lines to the owners of a run."""
        self._owners = tuple(start_owner(task, place) for place in range(self._num_owners))
        return self._owners

    async def tell_gone(self, name: str) -> None:
        """Let the owners know that a cell is gone; one that does not hear it misses the cell's beat soon."""
        await self._heard_by_owners((line.actor.gone.remote(name) for line in self._owners), HEARD_S)

    async def end_owners(self) -> None:
        """Let the owners write what is left. One that cannot has committed nothing that anybody has seen."""
        await self._heard_by_owners((line.actor.close.remote() for line in self._owners), OWNERS_END_S)
        for line in self._owners:
            ray.kill(line.actor)

    async def _heard_by_owners(self, words: Iterable[Awaitable[None]], within_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await asyncio.gather(*words, return_exceptions=True)

    async def start(self, task: CellTask, name: str) -> CellLine:
        """Return the line to a new cell. ConfigError where no cell can work on the cluster's machines, RunError where
        none can be started."""
        try:
            async with asyncio.timeout(START_S):
                return await self._begun(task, name)
        except TimeoutError as error:
            raise RunError(
                f"the cluster gave no place to a cell in {START_S:.0f} s",
                hint="each cell needs one CPU: take fewer with --cells, or add nodes",
            ) from error
        except RayError as error:
            raise RunError(f"a cell could not be started: {error}", hint="see the logs of Ray") from error

    async def _begun(self, task: CellTask, name: str) -> CellLine:
        """Until Ray has noticed that a machine is gone, it gives that machine's places away: it is asked again then."""
        num_lost = 0
        while True:
            # A cell that is gone is no more: another one takes its place. It has no name, of which Ray would ask the
            # head, with this loop waiting for as long as that is away.
            options = {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD"}
            line = RayLine(self._class.options(**options).remote())
            try:
                await self._check(line.actor, task)
                with suppress(RayActorError):  # whoever hears the cell finds it gone
                    await line.actor.begin.remote(task, name)
                return line
            except BaseException as error:
                line.end()
                num_lost += 1
                if num_lost > MAX_LOST or not isinstance(error, RayActorError):
                    raise
            await asyncio.sleep(RETRY_S)

    async def _check(self, actor: Any, task: CellTask) -> None:
        """Raise SundogError where no cell can work in an actor, RayActorError where that is lost."""
        installed, obstacle = await self._head.unless_lost(actor.check.remote(task))
        if installed != installed_here():
            raise ConfigError(
                f"a node of the cluster has {installed}, this process {installed_here()}",
                hint="install the same versions on all nodes, as by one image",
            )
        if obstacle is not None:
            raise obstacle


def _obstacle(task: CellTask) -> SundogError | None:
    """Return why no cell of a task can work on this machine."""
    try:
        if ObjectStorage(task.state).read(f"scratch/{task.probe}") is None:
            return ConfigError(
                f"the machine {platform.node()} does not see the state {task.state}",
                hint="use a folder that all machines share, or storage: --state s3://bucket/folder",
            )
        if not Path(task.base_dir).is_dir():
            return ConfigError(
                f"the machine {platform.node()} has no folder {task.base_dir}, in which the flow's files lie",
                hint="put it there, or submit the run as a job: --address http://HEAD:8265",
            )
    except SundogError as error:
        return error
    return None
