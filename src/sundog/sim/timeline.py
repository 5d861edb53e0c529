"""The course of a simulation: what each pool does, looked at often enough to be drawn.

Owns when it is looked at. A simulation's length is not known before its end, so the times lie twice as far apart
whenever there are too many of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sundog.host.beside import beside

MAX_LOOKS = 240
FIRST_PERIOD_S = 0.05


@dataclass(frozen=True, slots=True)
class PoolLook:
    """One pool at one moment."""

    num_waiting: int
    num_running: int
    #: Share of its KV blocks that running requests hold; None where it has no bounded cache.
    kv_usage: float | None
    num_replicas: int


@dataclass(slots=True)
class SimulationCourse:
    """Looks at all pools at equal distances."""

    period_s: float = FIRST_PERIOD_S
    times_s: list[float] = field(default_factory=list)
    looks: list[Mapping[str, PoolLook]] = field(default_factory=list)

    def add(self, time_s: float, look: Mapping[str, PoolLook]) -> None:
        """Keep one look; with too many of them, forget every second one and look half as often."""
        self.times_s.append(time_s)
        self.looks.append(look)
        if len(self.times_s) > MAX_LOOKS:
            del self.times_s[1::2], self.looks[1::2]
            self.period_s *= 2

    @asynccontextmanager
    async def watching(self, look: Callable[[], Mapping[str, PoolLook]]) -> AsyncIterator[None]:
        """Look while the block runs."""
        loop = asyncio.get_running_loop()

        async def watch() -> None:
            while True:
                self.add(loop.time(), look())
                await asyncio.sleep(self.period_s)

        async with beside(watch()):
            try:
                yield
            finally:
                self.add(loop.time(), look())
