"""The hosts that there are, held to the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from sundog.errors import EngineUnavailable
from sundog.host.attempt import Success
from sundog.host.driver import Driver, GivenUp
from sundog.host.virtual_loop import run_virtually
from sundog.sched.events import PoolOpened, ReplicaAdded, ReplicaDraining, Submit
from tests.hosts.conformance import CheckedCore, HostConformance, Replica, Scripted
from tests.hosts.list_host import ListHost


class TestListHost(HostConformance):
    def drive(self, core: CheckedCore, replicas: Sequence[Replica], load: Sequence[Scripted]) -> dict[str, str]:
        return ListHost(core, replicas, load).run()


class TestDriver(HostConformance):
    """The batch's driver, in virtual time."""

    def drive(self, core: CheckedCore, replicas: Sequence[Replica], load: Sequence[Scripted]) -> dict[str, str]:
        async def main() -> dict[str, str]:
            driver = Driver(core, lambda event: None, Closes())
            driver.tell(PoolOpened(0.0, "p"))
            comings = [asyncio.ensure_future(come_and_go(driver, replica)) for replica in replicas]
            ended = await asyncio.gather(*(run(driver, one) for one in load))
            await asyncio.gather(*comings)
            await driver.close()
            return {one.name: ending for one, ending in zip(load, ended, strict=True)}

        return run_virtually(main())


class Closes:
    async def load(self, worker_id: str, pool: str) -> ReplicaAdded:
        raise AssertionError("there are no workers")

    async def unload(self, replica_id: str) -> None:
        await asyncio.sleep(0)


async def come_and_go(driver: Driver, replica: Replica) -> None:
    await asyncio.sleep(replica.from_s)
    driver.tell(replace(replica.added(), time_s=driver.now_s()))
    if replica.until_s is not None:
        await asyncio.sleep(replica.until_s - replica.from_s)
        driver.tell(ReplicaDraining(driver.now_s(), replica.name))


async def run(driver: Driver, one: Scripted) -> str:
    async def attempt(submit: Submit) -> Success[str]:
        takes_s, ending = one.attempt(submit.attempt)
        await asyncio.sleep(takes_s)
        if ending != "finished":
            raise EngineUnavailable("it fails", retryable=ending == "retryable")
        return Success("finished")

    await asyncio.sleep(one.at_s)
    try:
        async with asyncio.timeout(None if one.leaves_s is None else one.leaves_s - one.at_s):
            return await driver.run(one.arrived(), attempt)
    except GivenUp as given_up:
        return given_up.why
    except TimeoutError:
        return "cancelled"
