"""An owner over a state at a URL, lines to it in memory that lose, delay and double, and cells that ask it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from sundog.cells.owning.client import ExchangeClient
from sundog.cells.owning.host import OwnerHost, hosted_owner
from sundog.cells.owning.line import LineLost
from sundog.cells.owning.packing import stored_of
from sundog.cluster.asking import OwnerReply
from sundog.cluster.owner_events import AskerBeat, BatchAsked, NewsAsked
from sundog.engines.base import Usage
from sundog.ir.physical import CallExec, calls_of
from sundog.ir.row_ids import RowRef
from sundog.ir.values.normal_form import encode
from sundog.operators.base import BoundCall
from sundog.store.segments.storage import ObjectStorage
from sundog.store.store import Stored
from tests.execution.fakes import FakeOperator, World, plan_of, step
from tests.store.segments.storages import opened

LOG = "run.owner-0"
PLAN = plan_of(step("a", "{{ row.x }}"))
(NODE,) = calls_of(World(Path(), FakeOperator()).physical(PLAN).nodes)
USAGE = Usage(10, 5, 2)
Say = Callable[[OwnerHost], Awaitable[Sequence[OwnerReply]]]


def asks_of_a(node: CallExec, call: BoundCall, row: RowRef) -> bool:
    """Other cells may want the calls of the step `a`."""
    return node.name == "a"


class OwnerLife:
    """An owner that can be killed and started again, each time on a machine of its own."""

    def __init__(self, folder: Path) -> None:
        self.url = f"file://{folder}/shared"
        self._caches = folder / "caches"
        self._num_started = 0
        self._stack = AsyncExitStack()
        self.host: OwnerHost | None = None
        self.said: set[asyncio.Future[Sequence[OwnerReply]]] = set()

    async def start(self) -> None:
        self._num_started += 1
        self.host = await self._stack.enter_async_context(hosted_owner(self.cache(), LOG))

    async def kill(self) -> None:
        """Take the owner away; its last values come to the log or not."""
        self.host = None
        for one in self.said:
            one.cancel()
        await self._stack.aclose()

    def cache(self) -> Path:
        """Return a cache made of all logs, as another machine would have it."""
        return opened(ObjectStorage(self.url), self._caches / f"{self._num_started}").folder

    async def carry(self, say: Say) -> Sequence[OwnerReply]:
        if self.host is None:
            raise LineLost
        saying = asyncio.ensure_future(say(self.host))
        self.said.add(saying)
        try:
            return await saying
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise LineLost from None
        finally:
            self.said.discard(saying)


class MemoryLine:
    """A line that loses, delays and doubles `share` of what is said."""

    def __init__(self, owner: OwnerLife, seed: int = 0, share: float = 0.0) -> None:
        self._owner = owner
        self._random = Random(seed)
        self._share = share
        self.is_cut = False
        self.batches: list[BatchAsked] = []

    async def ask(self, batch: BatchAsked) -> Sequence[OwnerReply]:
        self.batches.append(batch)
        return await self._carry(lambda host: host.ask(batch))

    async def listen(self, asked: NewsAsked, timeout_s: float) -> Sequence[OwnerReply]:
        return await self._carry(lambda host: host.listen(asked, timeout_s))

    async def beat(self, beat: AskerBeat) -> Sequence[OwnerReply]:
        return await self._carry(lambda host: host.beat(beat))

    async def _carry(self, say: Say) -> Sequence[OwnerReply]:
        fault = ""
        if self._random.random() < self._share:
            fault = self._random.choice(["lost before", "lost after", "late", "doubled"])
        if self.is_cut or fault == "lost before":
            raise LineLost
        if fault == "late":
            await asyncio.sleep(self._random.uniform(0, 0.5))
        replies = await self._owner.carry(say)
        if fault == "doubled":
            replies = await self._owner.carry(say)
        if fault == "lost after":
            raise LineLost
        return replies


class TestCell:
    """A cell without rows: it claims and puts."""

    __test__ = False

    def __init__(self, name: str, line: MemoryLine) -> None:
        self.name = name
        self.line = line
        #: By key what it has kept itself, and how often.
        self.kept: dict[bytes, Any] = {}
        self.num_kept = 0
        self.client = ExchangeClient(name, [line], asks_of_a, self._keep)
        #: A claim waits for another cell.
        self.waits = asyncio.Event()

    async def _keep(self, values: Mapping[bytes, bytes]) -> None:
        self.kept.update({key: stored_of(value).value for key, value in values.items()})
        self.num_kept += len(values)

    async def claim(self, key: bytes) -> Any:
        """Return the value, "lead" where the cell leads."""
        found = await self.client.claim(NODE, key, self.waits.set)
        return "lead" if found is None else found.value

    async def put(self, key: bytes, value: Any) -> Any:
        """Return the value that stays, None for this one."""
        first: Stored | None = await self.client.put(key, "run-1", "a", encode(value), USAGE, call_s=0.5)
        return None if first is None else first.value


@asynccontextmanager
async def owner_and_cells(folder: Path, *names: str) -> AsyncIterator[tuple[OwnerLife, list[TestCell]]]:
    """Give an owner and cells that talk to it over lines without faults."""
    owner = OwnerLife(folder)
    await owner.start()
    cells = [TestCell(name, MemoryLine(owner)) for name in names]
    async with AsyncExitStack() as stack:
        for cell in cells:
            await stack.enter_async_context(cell.client.talking())
        yield owner, cells
    await owner.kill()
