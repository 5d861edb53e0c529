"""Cells that share limits: in sum they never pass one, whatever is lost, and they use them up."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.cells.sharing import CellShares, RunShares
from sundog.config import read_config
from sundog.engines.modelled.null import NullKind
from sundog.errors import LimitReached
from sundog.execution.pool_shares import PoolShares
from sundog.execution.pools import RunPools
from sundog.host.attempt import Success
from sundog.host.driver import Driver
from sundog.ir.physical import PhysicalPlan
from sundog.ledger.charges import Charge
from sundog.ledger.ledger import LimitRefusal, SpendingScope
from sundog.runtime.limits import MAX_TOKENS, MAX_USD, RunLimits
from sundog.runtime.run_options import RunOptions
from sundog.sched.catalog import FCFS
from sundog.sched.core import SchedulerCore
from sundog.sched.events import RequestArrived, Submit
from sundog.secrets import Secrets
from sundog.servers.run_servers import RunServers
from sundog.servers.servers import Servers
from sundog.session.session import Session, plan_session
from sundog.store.runs import RunList, RunRecord
from sundog.store.spending import SpentBook
from sundog.store.store import Store


def session_of(state: Path, limit: int = 4, **engine: Any) -> Session:
    flow = sd.Flow("f")
    row = flow.input("rows", rows=[{"id": number} for number in range(6)])
    seen = flow.http("look", url="http://x/", params={"q": row.id})
    priced = {"kind": "null", "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}, **engine}
    said = flow.llm("said", engine=flow.engine("e", **priced), prompt=f"{row.id} {seen.text}", max_tokens=8)
    flow.output(text=said.text)
    flow.limit("http://x", max_concurrency=limit)
    return plan_session(flow.plan(), flow.base_dir, read_config(state))


class NoPools(PoolShares):
    """The pools of a cell that shares budgets alone."""

    def __init__(self) -> None:
        """There are none."""

    def demands(self) -> dict[str, int]:
        return {}

    def share(self, name: str, amount: int) -> None:
        """Nobody asks."""

    def num_running(self, name: str) -> int:
        return 0


class World:
    """A driver and its cells over one store, and words between them of which a part is lost."""

    def __init__(self, state: Path, num_cells: int, chance: random.Random, **options: Any) -> None:
        self.session = session_of(state)
        self.store = Store(state)
        self.store.open_writer()
        runs = RunList(self.store, state)
        self.record = runs.start(b"c", b"i", "f", "", 6, is_fresh=False, effects=b"", modules="{}")
        self.options = RunOptions(state, **options)
        self.chance = chance
        self.limits = RunLimits(self.session.plan, self.record, self.options, self.store)
        left = self.limits.begin_shared()
        self.shares = RunShares(self.session.plan, self.session.flow.operators, self.limits, left, num_cells)
        self.cells: dict[str, tuple[CellShares, RunLimits]] = {}
        self.num_started = 0
        self.reached: LimitReached | None = None
        for place in range(num_cells):
            self.start(place)

    def start(self, place: int) -> None:
        self.num_started += 1
        name = f"c{self.num_started}"
        plan = self.shares.join(name, place)
        limits = RunLimits(plan, self.record, self.options, self.store, cell=name)
        engine = NullKind().open(NullKind.Options(model="m"), 0, Secrets({}))
        limits.open({"engine:e": engine}, self.session.flow.operators)
        self.cells[name] = CellShares(NoPools(), limits, plan.shares), limits

    def tick(self) -> None:
        words = []
        for name, (cell, _) in self.cells.items():
            told = cell.told()
            if self.chance.random() < 0.7:
                words += self.shares.hear(name, told)
        due, reached = self.shares.due()
        self.reached = self.reached or reached
        for word in words + due:
            for _ in range(self.chance.randrange(3)):
                if word.cell in self.cells:
                    self.cells[word.cell][0].hear(word)

    async def lose(self, name: str, place: int) -> None:
        """A cell is killed, and another one takes its place."""
        _, limits = self.cells.pop(name)
        limits.close()
        # What is written is there once a later write is.
        await self.store.put_busy(self.record.run_id, 1.0)
        self.shares.gone(name, self.store, self.record.run_id)
        self.start(place)

    def spent(self) -> Charge:
        found = SpentBook(self.store).written(SpendingScope("run", self.record.run_id))
        assert found is not None
        return found.spent + found.reserved


MOST = Charge(20_000, 20)


async def spend(limits: RunLimits, chance: random.Random) -> LimitRefusal:
    """Make calls one after another, until none may start."""
    assert limits.accounts is not None
    while True:
        outcome = await limits.accounts.reserve(limits.payers, MOST)
        if isinstance(outcome, LimitRefusal):
            return outcome
        await asyncio.sleep(0)
        cost = chance.randint(1, 20)
        limits.accounts.settle(outcome, Charge(cost * 1000, cost))


@pytest.mark.parametrize("num_killed", [0, 2])
@pytest.mark.parametrize("options", [{"max_tokens": 1000}, {"max_usd": 0.001}, {"max_tokens": 1000, "max_usd": 0.001}])
@pytest.mark.parametrize("seed", range(3))
def test_cells_spend_a_budget_whole_and_never_more(
    tmp_path: Path, options: dict[str, Any], num_killed: int, seed: int
) -> None:
    chance = random.Random(seed)

    async def main() -> None:
        world = World(tmp_path, 4, chance, **options)
        works: dict[str, list[asyncio.Task[LimitRefusal]]] = {}
        num_left, num_ticks = num_killed, 0
        while world.reached is None:
            for name, (_, limits) in world.cells.items():
                if name not in works:
                    works[name] = [asyncio.ensure_future(spend(limits, chance)) for _ in range(3)]
            world.tick()
            await asyncio.sleep(0.001)
            num_ticks += 1
            assert num_ticks < 2000, "the cells stand still"
            if num_left and num_ticks == 5 * num_left:
                num_left -= 1
                name = chance.choice(list(world.cells))
                for work in works[name]:
                    work.cancel()
                await asyncio.gather(*works[name], return_exceptions=True)
                await world.lose(name, 0)
        assert world.reached.refusal.asked.num_tokens == 20 or world.reached.refusal.asked.nano_usd == 20_000
        assert f"of the run '{world.record.run_id}' is" in world.reached.what
        for cell, _ in world.cells.values():
            cell.let_go()
        # The last one may have come after all was spent.
        for name in world.cells.keys() & works.keys():
            assert all(isinstance(refusal, LimitRefusal) for refusal in await asyncio.gather(*works[name]))
        for _, limits in world.cells.values():
            limits.close()
        await world.store.put_busy(world.record.run_id, 1.0)
        assert 980 < world.spent().num_tokens <= 1000
        assert world.limits.begin_shared().keys() == options.keys(), "the parts are taken up"
        assert world.spent().num_tokens <= 1000
        again = SpentBook(world.store).written(SpendingScope("run", f"{world.record.run_id}.c1"))
        assert again is None, "the account of a part has gone into that of the run"
        world.store.close()

    asyncio.run(main())


def test_a_larger_limit_goes_on_where_the_cells_have_stopped(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path, 2, random.Random(1), max_tokens=100)
        works = [asyncio.ensure_future(spend(limits, world.chance)) for _, limits in world.cells.values()]
        while world.reached is None:
            world.tick()
            await asyncio.sleep(0.001)
        for cell, limits in world.cells.values():
            cell.let_go()
            limits.close()
        await asyncio.gather(*works)
        await world.store.put_busy(world.record.run_id, 1.0)
        spent = world.spent().num_tokens
        plan, record, options = world.session.plan, world.record, RunOptions(tmp_path, max_tokens=200)
        assert RunLimits(plan, record, options, world.store).begin_shared() == {MAX_TOKENS: 200 - spent}
        assert "a call with a larger max_tokens, continues the run" in str(world.reached.hint)
        world.store.close()

    asyncio.run(main())


def test_a_cell_has_nothing_of_a_budget_that_its_plan_does_not_name(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path, 1, random.Random(1), max_usd=1.0)
        limits = RunLimits(world.session.plan, world.record, world.options, world.store, cell="lost")
        limits.open(
            {"engine:e": NullKind().open(NullKind.Options(model="m"), 0, Secrets({}))}, world.session.flow.operators
        )
        work = asyncio.ensure_future(spend(limits, world.chance))
        await asyncio.sleep(0.01)
        assert limits.use() == {MAX_USD: (0, 0, 20_000)}
        limits.let_go()
        assert (await work).limit == "max_usd"
        world.store.close()

    asyncio.run(main())


class Cell:
    """A cell's pools on a scheduler core, and calls that take as long as the test wants."""

    def __init__(self, session: Session, plan: PhysicalPlan, state: Path) -> None:
        secrets = Secrets({})
        self.pools = RunPools(plan, session.flow.operators, secrets, RunServers(Servers(state, secrets)))
        self.driver = Driver(SchedulerCore(FCFS), lambda event: None)
        for replica in self.pools.replicas(0.0):
            self.driver.tell(replica)
        limits = RunLimits(plan, RUN, RunOptions(state), Store(state), cell="c")
        self.shares = CellShares(PoolShares(self.pools, self.driver), limits, plan.shares)
        self.running: list[asyncio.Future[None]] = []
        self.calls: list[asyncio.Task[int]] = []

    def call(self) -> None:
        async def attempt(submit: Submit) -> Success[int]:
            self.running.append(asyncio.get_running_loop().create_future())
            await self.running[-1]
            return Success(1, None)

        arrived = RequestArrived(0.0, f"r{len(self.calls)}", TOOL)
        self.calls.append(asyncio.ensure_future(self.driver.run(arrived, attempt)))

    @property
    def num_running(self) -> int:
        return sum(not one.done() for one in self.running)

    def end_one(self) -> None:
        next(one for one in self.running if not one.done()).set_result(None)


TOOL = "http:http://x"
RUN = RunRecord("r", b"", b"", "f", "", "unfinished", False, "2026-01-01T00:00:00", None, 0, 0.0, b"", "{}", False)


@pytest.mark.parametrize("limit", [1, 5])
def test_the_limit_of_a_tool_goes_where_the_calls_are(tmp_path: Path, limit: int) -> None:
    """One cell has no call any more, and the other one many: it makes all that the limit lets."""

    async def main() -> None:
        session = session_of(tmp_path, limit)
        limits = RunLimits(session.plan, RUN, RunOptions(tmp_path), Store(tmp_path))
        shares = RunShares(session.plan, session.flow.operators, limits, {}, 2)
        cells = {name: Cell(session, shares.join(name, place), tmp_path) for place, name in enumerate("xy")}
        chance = random.Random(3)
        for cell in cells.values():
            for _ in range(9 if cell is cells["x"] else 60):
                cell.call()

        async def tick() -> None:
            words = []
            for name, cell in cells.items():
                told = cell.shares.told()
                if chance.random() < 0.7:
                    words += shares.hear(name, told)
            for word in words + shares.due()[0]:
                if chance.random() < 0.7:
                    cells[word.cell].shares.hear(word)
            for _ in range(3):
                await asyncio.sleep(0)
            assert sum(cell.num_running for cell in cells.values()) <= limit

        while not all(call.done() for call in cells["x"].calls):
            await tick()
            for cell in cells.values():
                if cell.num_running and (cell is cells["x"] or chance.random() < 0.2):
                    cell.end_one()
        for _ in range(20):
            cells["y"].call()
        for _ in range(30):
            await tick()
        assert cells["y"].num_running == max(1, limit - 1), "all but the one that x begins with next"
        for call in cells["y"].calls:
            call.cancel()
        await asyncio.gather(*cells["y"].calls, return_exceptions=True)

    asyncio.run(main())
