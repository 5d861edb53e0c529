"""An open loop in real time, and the figures of its course.

Owns when a request is sent: at its time, whoever waits. Never answers one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from math import inf

from online.answered import Answered
from online.load import Asked
from online.real.arms import Answer


async def answered(answer: Answer, asked: Sequence[Asked], until_s: float) -> list[Answered]:
    """Send the requests at their times, and return what became of them by `until_s`, when what is open is left."""
    begin_s = time.monotonic()
    ends_s: dict[int, float] = {}

    async def one(number: int, request: Asked) -> None:
        await asyncio.sleep(max(0.0, begin_s + request.time_s - time.monotonic()))
        await answer(request)
        ends_s[number] = time.monotonic() - begin_s

    tasks = [asyncio.ensure_future(one(number, request)) for number, request in enumerate(asked)]
    _, left = await asyncio.wait(tasks, timeout=until_s)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for task in tasks:
        if task not in left:
            task.result()
    return [Answered(request.time_s, ends_s.get(number, inf)) for number, request in enumerate(asked)]
