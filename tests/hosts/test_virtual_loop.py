"""The loop in virtual time: its timers."""

from __future__ import annotations

import asyncio
from random import Random

from sundog.host.virtual_loop import run_virtually


def test_timers_of_one_moment_fire_as_they_were_set() -> None:
    """Whatever other timers there are: a heap alone would fire them in an order that depends on these."""

    async def fired(seed: int) -> list[int]:
        chance, loop = Random(seed), asyncio.get_running_loop()
        order: list[int] = []
        for number in range(40):
            loop.call_at(5.0, order.append, number)
            for _ in range(chance.randrange(4)):
                loop.call_at(chance.uniform(0, 10), int)
        await asyncio.sleep(6)
        return order

    for seed in range(5):
        assert run_virtually(fired(seed)) == list(range(40))
