"""The pools of a run: its engines, started, and the limits of its tools.

Owns opening and closing of replicas and operators. Never picks a replica; the core does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from sundog.engines.base import ENGINES, Engine, EngineOptions
from sundog.ir.logical import EngineBlock
from sundog.ir.physical import CallExec, Exec, LoopExec, PhysicalPlan
from sundog.operators.base import Operator
from sundog.sched.events import ReplicaAdded
from sundog.secrets import Secrets

PREFIX_BLOCK_TOKENS = 32
UNKNOWN_CACHE_BLOCKS = 65_536


def engine_pool(name: str) -> str:
    return f"engine:{name}"


def calls_of(nodes: tuple[Exec, ...]) -> Iterator[CallExec]:
    """Every call in a plan, those inside loops too."""
    for node in nodes:
        match node:
            case CallExec():
                yield node
            case LoopExec():
                yield from calls_of(node.body)


class Pools:
    """Replicas by id, one pool per engine block and per tool."""

    def __init__(self, plan: PhysicalPlan, operators: Mapping[str, Operator], secrets: Secrets) -> None:
        self._plan = plan
        self._operators = operators
        self._secrets = secrets
        self.engines: dict[str, Engine] = {}
        self._options: dict[str, EngineOptions] = {}

    async def start(self) -> None:
        """Start every engine that a step uses; the first failure is raised, after the others are closed."""
        used = {call.pool for call in calls_of(self._plan.nodes)}
        for block in self._plan.logical.engines:
            if engine_pool(block.name) in used:
                self._open(block)
        try:
            await asyncio.gather(*(engine.start() for engine in self.engines.values()))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        for engine in self.engines.values():
            await engine.close()
        for operator in self._operators.values():
            await operator.close()

    def replicas(self, time_s: float) -> Iterator[ReplicaAdded]:
        """The events that tell the core what there is."""
        for replica_id, engine in self.engines.items():
            yield self._engine_replica(time_s, replica_id, engine)
        for pool, max_concurrency in tool_limits(self._plan, self._operators).items():
            yield ReplicaAdded(time_s, pool, pool, max_concurrency)

    def _open(self, block: EngineBlock) -> None:
        kind = ENGINES.get(block.kind)()
        options = kind.Options.model_validate(block.options)
        for number in range(kind.num_replicas(options)):
            replica_id = f"{block.name}/{number}"
            self.engines[replica_id] = kind.open(options, number, self._secrets)
            self._options[replica_id] = options

    def _engine_replica(self, time_s: float, replica_id: str, engine: Engine) -> ReplicaAdded:
        options, can = self._options[replica_id], engine.capabilities()
        num_blocks = (can.max_kv_tokens or UNKNOWN_CACHE_BLOCKS * PREFIX_BLOCK_TOKENS) // PREFIX_BLOCK_TOKENS
        return ReplicaAdded(
            time_s,
            replica_id,
            engine_pool(replica_id.rpartition("/")[0]),
            options.max_concurrency,
            options.max_tokens_in_flight or can.max_kv_tokens,
            num_blocks if can.has_prefix_cache else 0,
        )


def tool_limits(plan: PhysicalPlan, operators: Mapping[str, Operator]) -> dict[str, int]:
    """The tools' pools and how many calls each takes at once, in the order of the plan."""
    limits: dict[str, int] = {}
    for call in calls_of(plan.nodes):
        traits = operators[call.step.operator].traits(call.step.spec)
        if traits.engine is None:
            limits[call.pool] = max(limits.get(call.pool, 1), traits.max_concurrency)
    return limits


def engine_limits(plan: PhysicalPlan) -> Iterator[tuple[str, int, EngineOptions]]:
    """(pool, replicas, options) of each engine that a step uses. Starts nothing."""
    used = {call.pool for call in calls_of(plan.nodes)}
    for block in plan.logical.engines:
        if engine_pool(block.name) in used:
            kind = ENGINES.get(block.kind)()
            options = kind.Options.model_validate(block.options)
            yield engine_pool(block.name), kind.num_replicas(options), options


def identities(plan: PhysicalPlan) -> dict[str, Mapping[str, Any]]:
    """What decides each engine's answers, by the name of its block."""
    found: dict[str, Mapping[str, Any]] = {}
    for block in plan.logical.engines:
        kind = ENGINES.get(block.kind)()
        found[block.name] = kind.identity(kind.Options.model_validate(block.options))
    return found
