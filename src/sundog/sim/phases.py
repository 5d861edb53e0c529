"""Prefill and decode on separate replicas: a call's prompt is computed on one, its answer decoded on another.

Owns a call's way from the one to the other, and the links between them. Which replicas these are is the core's to
decide, for each phase as for any request of a pool.

Sources: Splitwise (Patel et al., ISCA 2024, arXiv 2311.18677) for the pools and the transfer of the KV cache, P/D-Serve
(arXiv 2408.08147) for a prompt that waits where it was computed until a decode replica takes it. A decode replica has
taken the request before its blocks move, they move one request after another over each replica's link, and the place at
the prefill replica is free when they have moved. Left out: Splitwise moves blocks layer by layer while later layers are
computed, and has a third pool that does both; P/D-Serve rejects at busy replicas in place of queueing, and groups
replicas by scenario.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

from sundog.engines.base import Usage
from sundog.host.attempt import RunAttempt, Success
from sundog.host.driver import Driver
from sundog.sched.events import RequestArrived, Submit
from sundog.sim.machines import Machines
from sundog.sim.workload import PhaseSplit, SimulatedCall


class Links:
    """The links of replicas. Each carries one transfer at a time, first come first served."""

    def __init__(self) -> None:
        self._free_s: dict[str, float] = defaultdict(float)

    def pass_over(self, source_id: str, target_id: str, move_s: float, now_s: float) -> float:
        """Return the seconds from now until a transfer of `move_s` has passed both links, behind those before it.

        >>> links = Links()
        >>> links.pass_over("p", "d", 2.0, now_s=0.0), links.pass_over("p", "e", 2.0, now_s=1.0)
        (2.0, 3.0)
        """
        end_s = max(now_s, self._free_s[source_id], self._free_s[target_id]) + move_s
        self._free_s[source_id] = self._free_s[target_id] = end_s
        return end_s - now_s


@dataclass(slots=True)
class _Waiting:
    """A prompt that was computed, and whose blocks are still on the replica that did it."""

    #: Ends when they have moved.
    moved: asyncio.Future[None]
    #: The request for its answer.
    decoding: asyncio.Future[None]


class ApartCalls:
    """This class runs calls whose phases are on different replicas. `on_wait`: told of a decode pool, and 1 when a
    request begins to wait for its first attempt there, -1 when it does no more."""

    def __init__(self, driver: Driver, machines: Machines, on_wait: Callable[[str, int], None]) -> None:
        self._driver = driver
        self._machines = machines
        self._on_wait = on_wait
        self._links = Links()

    async def run(
        self, arrived: RequestArrived, call: SimulatedCall, split: PhaseSplit, prompt: RunAttempt[int]
    ) -> None:
        """Run a call. `arrived`: the request for its prompt; `prompt`: an attempt of that, which gives the tokens that
        were cached. Raises what the driver does."""
        waiting: _Waiting | None = None

        async def attempt(submit: Submit) -> Success[None]:
            nonlocal waiting
            replica = self._machines.replica(submit.replica_id)
            succeeded = await prompt(submit)
            if call.num_output_tokens > 1:
                moved = replica.until_told()
                decoding = asyncio.ensure_future(self._decode(arrived, call, split, submit.replica_id, moved))
                waiting = _Waiting(moved, decoding)
                await self._until_moved(waiting)
            return Success(None, Usage(call.num_prompt_tokens, 1, succeeded.result))

        await self._driver.run(arrived, attempt)
        if waiting is not None:
            await waiting.decoding

    async def _until_moved(self, waiting: _Waiting) -> None:
        """Hold the place of the prompt until its blocks have moved, or nobody wants them any more."""
        try:
            await asyncio.wait((waiting.moved, waiting.decoding), return_when=asyncio.FIRST_COMPLETED)
            if waiting.moved.done():
                waiting.moved.result()
        except BaseException:
            waiting.decoding.cancel()
            await asyncio.gather(waiting.decoding, return_exceptions=True)
            raise
        finally:
            waiting.moved.cancel()

    async def _decode(
        self,
        arrived: RequestArrived,
        call: SimulatedCall,
        split: PhaseSplit,
        source_id: str,
        moved: asyncio.Future[None],
    ) -> None:
        driver, machines = self._driver, self._machines
        request_id, pool = f"{arrived.request_id}/decode", split.decode_pool
        has_waited = False

        def on_moved() -> None:
            driver.prefill_ended(request_id)
            if not moved.done():
                moved.set_result(None)

        def move_s(num_tokens: int, target_id: str) -> float:
            return self._links.pass_over(source_id, target_id, split.move_s(num_tokens), driver.now_s())

        async def attempt(submit: Submit) -> Success[None]:
            nonlocal has_waited
            if not has_waited:
                self._on_wait(pool, -1)
                has_waited = True
            replica = machines.replica(submit.replica_id)
            if moved.done():
                # Its blocks were lost with the replica that had them: all is computed again, here.
                num_cached = await replica.answer(call, lambda: driver.prefill_ended(request_id))
                return Success(None, Usage(call.num_prompt_tokens, call.num_output_tokens, num_cached))
            await replica.decode(call, lambda num_tokens: move_s(num_tokens, submit.replica_id), on_moved)
            return Success(None, Usage(0, call.num_output_tokens - 1, 0))

        self._on_wait(pool, 1)
        try:
            await driver.run(replace(arrived, request_id=request_id, pool=pool), attempt)
        finally:
            if not has_waited:
                self._on_wait(pool, -1)
