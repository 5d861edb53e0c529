"""Role flip in a simulation: a replica of one phase takes no further request, ends what it runs, and serves the other.

Owns when the policy is asked and how a flip is carried out. Whether there is one is the policy's
(`sched.policies.role_flip`). The replica with the least to do flips, one at a time. Left out: in xLLM a replica takes
requests of its new role while it ends those of its old one; here it begins when they have ended, without its KV cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sundog.host.beside import beside
from sundog.host.driver import Driver
from sundog.sched.events import ReplicaDraining
from sundog.sched.fleets import DecodeView, PrefillView
from sundog.sim.machines import Machines
from sundog.sim.timeline import PoolLook
from sundog.sim.workload import PhaseSplit

PERIOD_S = 1.0
"""Between two questions."""
COOLDOWN_S = 5.0
"""After a flip, for its effect to be seen."""


class _Flipper:
    """This class flips replicas between a pool and the one that decodes for it. `look`: says what a pool does now."""

    def __init__(
        self, pool: str, split: PhaseSplit, driver: Driver, machines: Machines, look: Callable[[str], PoolLook]
    ) -> None:
        assert split.flip is not None, "each replica keeps its role"
        self._pool = pool
        self._decode_pool = split.decode_pool
        self._flip = split.flip
        self._driver = driver
        self._machines = machines
        self._look = look

    async def run(self) -> None:
        """Ask the policy now and then, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            flip = self._flip(self._prefill(), self._decode())
            if flip == "to_decode":
                await self._change(self._pool, self._decode_pool)
            elif flip == "to_prefill":
                await self._change(self._decode_pool, self._pool)

    def _prefill(self) -> PrefillView:
        replicas = [self._machines.replicas[name] for name in self._machines.staying(self._pool)]
        num_tokens = sum(replica.num_prefill_tokens for replica in replicas)
        full_step = sum(replica.engine.max_step_tokens for replica in replicas)
        return PrefillView(len(replicas), num_tokens / full_step if full_step else 0.0)

    def _decode(self) -> DecodeView:
        look = self._look(self._decode_pool)
        names = self._machines.staying(self._decode_pool)
        num_places = sum(self._machines.replicas[name].engine.max_concurrency for name in names)
        usage = max(look.num_running / num_places if num_places else 1.0, look.kv_usage or 0.0)
        return DecodeView(len(names), look.num_waiting, usage)

    async def _change(self, old: str, new: str) -> None:
        """Flip the replica with the least to do, the youngest of several."""
        replicas = self._machines.replicas
        names = reversed(self._machines.staying(old))
        replica_id = min(names, key=lambda name: replicas[name].num_running)
        gone = asyncio.Event()
        self._machines.leave(replica_id, gone.set)
        self._driver.tell(ReplicaDraining(self._driver.now_s(), replica_id))
        await gone.wait()
        self._machines.num_flips[self._pool] += 1
        self._driver.tell(self._machines.start(self._driver.now_s(), self._machines.rent(new), new))
        await asyncio.sleep(COOLDOWN_S)


@asynccontextmanager
async def flipping(driver: Driver, machines: Machines, look: Callable[[str], PoolLook]) -> AsyncIterator[None]:
    """Replicas change their roles while the block runs, where their phases are apart and they may. `look`: by pool."""
    splits = {pool: split for pool, split in machines.splits.items() if split.flip is not None}
    async with beside(*(_Flipper(pool, split, driver, machines, look).run() for pool, split in splits.items())):
        yield
