"""Scenarios of calls for one engine with one slot, and the hosts that decide them: which call starts when."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from sundog.engines.base import Usage
from sundog.host.attempt import Success
from sundog.host.driver import Driver
from sundog.host.virtual_loop import run_virtually
from sundog.sched.core import SchedulerCore
from sundog.sched.events import Event, ReplicaAdded, RequestArrived, RequestFinished, StepsOrdered, Submit
from sundog.sched.policy import PolicySet
from sundog.vllm_plugin.engine_books import EngineBooks
from sundog.vllm_plugin.engine_policy import EnginePolicy
from sundog.vllm_plugin.envelope import Envelope
from sundog.vllm_plugin.free_blocks import TwoTierQueue
from sundog.vllm_plugin.telemetry import StepTelemetry
from sundog.vllm_plugin.waiting import WaitingQueue
from tests.vllm_plugin.fakes import FakeBlock, FakeFreeBlocks, FakeQueue, FakeRequest, request

NUM_BLOCKS = 4000
BLOCK_TOKENS = 16


@dataclass(frozen=True)
class Ask:
    """A call that arrives at `at_s` and takes `takes_s`. `envelope`: what its owner says of it."""

    name: str
    at_s: float
    takes_s: float = 1.0
    num_prompt_tokens: int = 64
    num_output_tokens: int = 8
    envelope: dict[str, Any] = field(default_factory=dict)

    def request(self) -> FakeRequest:
        """Return the request as vLLM has it."""
        return request(self.name, self.at_s, num_prompt_tokens=self.num_prompt_tokens, **self.envelope)

    def arrived(self) -> RequestArrived:
        """Return the request as the core is told of it."""
        made, envelope = self.request(), Envelope(**self.envelope)
        return RequestArrived(
            self.at_s,
            self.name,
            "p",
            depth=envelope.turn,
            num_prompt_tokens=made.num_prompt_tokens,
            num_expected_output_tokens=made.max_tokens,
            prefix_key=tuple(map(hash, made.block_hashes)),
            has_successor=not envelope.last_turn,
            workflow_id=envelope.workflow,
            facts=envelope.facts(),
        )

    def finished(self, time_s: float) -> RequestFinished:
        return RequestFinished(time_s, self.name, self.num_prompt_tokens, 0, self.num_output_tokens)


def replica() -> ReplicaAdded:
    return ReplicaAdded(0.0, "p/0", "p", 1, None, NUM_BLOCKS)


def by_core(policies: PolicySet, asks: Sequence[Ask], steps: Sequence[str] = ()) -> list[str]:
    """The core alone, told of each event at its time. `steps`: in the order of the plan, where it has one."""
    core, named, started = SchedulerCore(policies), {ask.name: ask for ask in asks}, list[str]()
    core.handle(replica())
    core.handle(StepsOrdered(0.0, "", tuple(steps), tuple(range(len(steps)))))
    numbers = count()
    events: list[tuple[float, int, Event]] = []
    for ask in asks:
        heapq.heappush(events, (ask.at_s, next(numbers), ask.arrived()))
    while events:
        time_s, _, event = heapq.heappop(events)
        for action in core.handle(event):
            assert isinstance(action, Submit)
            started.append(action.request_id)
            end_s = time_s + named[action.request_id].takes_s
            heapq.heappush(events, (end_s, next(numbers), named[action.request_id].finished(end_s)))
        core.check()
    return started


def by_driver(policies: PolicySet, asks: Sequence[Ask], steps: Sequence[str] = ()) -> list[str]:
    """The batch's driver, on an event loop in virtual time; `steps` as above."""
    started: list[str] = []

    async def main() -> None:
        host = Driver(SchedulerCore(policies), lambda event: None)
        host.tell(replica())
        host.tell(StepsOrdered(0.0, "", tuple(steps), tuple(range(len(steps)))))
        await asyncio.gather(*(run(host, ask) for ask in asks))

    async def run(host: Driver, ask: Ask) -> None:
        async def attempt(submit: Submit) -> Success[None]:
            started.append(ask.name)
            await asyncio.sleep(ask.takes_s)
            return Success(None, Usage(ask.num_prompt_tokens, ask.num_output_tokens, 0))

        await asyncio.sleep(ask.at_s)
        await host.run(ask.arrived(), attempt)

    run_virtually(main())
    return started


def by_plugin(policies: PolicySet, asks: Sequence[Ask]) -> list[str]:
    """The plugin's books and queue inside an engine, at each of whose steps one request at most runs."""
    books = EngineBooks(
        model="p",
        num_blocks=NUM_BLOCKS,
        block_size=BLOCK_TOKENS,
        max_num_seqs=1,
        max_model_len=512,
        knows_prefixes=policies.needs_prefixes,
    )
    engine = EnginePolicy(policies, books, block_size=BLOCK_TOKENS, max_draft_tokens=4)
    engine.free_blocks = TwoTierQueue(FakeFreeBlocks([FakeBlock(0)]), engine.evict_rank)
    return list(_steps(engine, WaitingQueue(FakeQueue(), engine.rank_of), sorted(asks, key=lambda ask: ask.at_s)))


def _steps(engine: EnginePolicy, waiting: WaitingQueue, asks: list[Ask]) -> Iterator[str]:
    named = {ask.name: ask for ask in asks}
    running: tuple[float, FakeRequest] | None = None
    while asks or running or waiting:
        if running is not None and (not asks or running[0] <= asks[0].at_s):
            now_s, ended = running
            running = None
            ended.num_output_tokens = named[ended.request_id].num_output_tokens
            engine.end_step(now_s, StepTelemetry(0, 0.0))
            engine.end(ended, [], is_whole=True)
        elif asks:
            ask = asks.pop(0)
            now_s, come = ask.at_s, ask.request()
            engine.begin_step(now_s, len(waiting))
            engine.arrive(come)
            waiting.add_request(come)
        if running is None and waiting:
            engine.begin_step(now_s, len(waiting))
            waiting.refresh()
            first = waiting.peek_request()
            assert engine.admits(first, [])
            assert isinstance(first, FakeRequest)
            waiting.pop_request()
            engine.start_new([first], {})
            running = now_s + named[first.request_id].takes_s, first
            yield first.request_id


def told(ask: Ask, **envelope: Any) -> Ask:
    return replace(ask, envelope={**ask.envelope, **envelope})
