"""The needs of a plan, read from its blocks of engines and tools: kinds, options, replicas, limits. Starts nothing.

Owns the one place that decodes an engine's block. Never opens an engine: execution.pools does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any

from sundog.engines.base import ENGINES, EngineKind, EngineOptions
from sundog.engines.pool import PooledKind, PoolServedKind, ServerPool
from sundog.engines.served import ServerCommand
from sundog.ir.logical import EngineBlock
from sundog.ir.physical import PhysicalPlan, calls_of
from sundog.ir.pool_names import engine_pool
from sundog.operators.base import Operator, Traits
from sundog.secrets import Secrets

MIN_ROWS_IN_FLIGHT, MAX_ROWS_IN_FLIGHT = 2048, 32_768
REPLICAS_OF_A_CELL = 25
"""One process feeds so many engines: benchmarks of the coordinator are behind the number."""
ROWS_OF_A_PLACE = 2
"""While a row is answered, another waits for its place."""


def opened(block: EngineBlock) -> tuple[EngineKind, EngineOptions]:
    """Return the kind of an engine's block, and its options with every default filled in."""
    kind = ENGINES.get(block.kind)()
    return kind, kind.Options.model_validate(block.options)


def num_replicas(block: EngineBlock) -> int:
    """Return how many replicas the block asks for, or is expected to have where they come and go; on workers it is the
    core that decides."""
    kind, options = opened(block)
    return kind.num_replicas(options)


def pool_of(block: EngineBlock) -> ServerPool | None:
    """Return the pool whose servers come and go; None where the block's replicas are known."""
    kind, options = opened(block)
    return kind.pool(options) if isinstance(kind, PooledKind) else None


def pool_server(block: EngineBlock, host: str, port: int, secrets: Secrets) -> ServerCommand:
    """Return the command that starts one server of an engine's pool on this machine, at an address and port of it.
    ConfigError where the machine lacks what the server needs."""
    kind, options = opened(block)
    assert isinstance(kind, PoolServedKind), f"servers of '{block.kind}' are not started"
    return kind.pool_server(options, host, port, secrets)


def identity(block: EngineBlock) -> Mapping[str, Any]:
    """Return what decides the engine's answers."""
    kind, options = opened(block)
    return kind.identity(options)


def tool_limits(plan: PhysicalPlan, operators: Mapping[str, Operator]) -> dict[str, int]:
    """Return the tools' pools and how many calls each takes at once, in the order of the plan: as the flow says, else
    as the operators do. The plan, its estimate, the simulator and the run have these numbers from here."""
    limits: dict[str, int] = {}
    for pool, traits in _tools(plan, operators):
        limits[pool] = max(limits.get(pool, 1), traits.max_concurrency)
    return {pool: plan.logical.limits.get(pool, limit) for pool, limit in limits.items()}


def outside_limits(plan: PhysicalPlan, operators: Mapping[str, Operator]) -> dict[str, int]:
    """Return those of `tool_limits` that hold for all processes of a run together: where the flow says one, and where
    the tool is no part of the process that calls it."""
    of_process = {pool for pool, traits in _tools(plan, operators) if traits.is_limit_of_process}
    own = of_process - plan.logical.limits.keys()
    return {pool: limit for pool, limit in tool_limits(plan, operators).items() if pool not in own}


def call_limits(plan: PhysicalPlan, operators: Mapping[str, Operator]) -> dict[str, int]:
    """Return by pool how many calls each of its replicas takes at once: engines, then tools."""
    engines = {pool: options.max_concurrency for pool, _, options in engine_limits(plan)}
    return engines | tool_limits(plan, operators)


def used_engines(plan: PhysicalPlan) -> list[EngineBlock]:
    """Return the blocks of the engines that a step uses."""
    used = {call.pool for call in calls_of(plan.nodes)}
    return [block for block in plan.logical.engines if engine_pool(block.name) in used]


def engine_limits(plan: PhysicalPlan) -> Iterator[tuple[str, int, EngineOptions]]:
    """Yield (pool, replicas, options) of each engine that a step uses; an engine on workers has as many replicas as
    there are workers, at most. Starts nothing."""
    counts = {group.name: group.count for group in plan.logical.workers}
    for block in used_engines(plan):
        number = num_replicas(block) if block.workers is None else counts[block.workers]
        yield engine_pool(block.name), number, opened(block)[1]


def default_cells(plan: PhysicalPlan, num_nodes: int) -> int:
    """Return how many cells a run has where its user says nothing: one for each node, and for every 25 replicas of an
    engine, and never more than an engine takes calls at once."""
    limits = list(engine_limits(plan))
    num_replicas = sum(number for _, number, _ in limits)
    num_places = [number * engine.max_concurrency for _, number, engine in limits]
    return max(1, min([max(num_nodes, ceil(num_replicas / REPLICAS_OF_A_CELL)), *num_places]))


def rows_in_flight(plan: PhysicalPlan) -> int:
    """Return how many rows keep every place of the engines busy, though each makes one call at a time; no more than
    memory is meant to hold."""
    num_places = sum(number * options.max_concurrency for _, number, options in engine_limits(plan))
    return max(MIN_ROWS_IN_FLIGHT, min(ROWS_OF_A_PLACE * num_places, MAX_ROWS_IN_FLIGHT))


def _tools(plan: PhysicalPlan, operators: Mapping[str, Operator]) -> Iterator[tuple[str, Traits]]:
    """Yield the pool and the traits of each step that no engine answers."""
    for call in calls_of(plan.nodes):
        traits = operators[call.step.operator].traits(call.step.spec)
        if traits.engine is None:
            yield call.pool, traits


def identities(plan: PhysicalPlan) -> dict[str, Mapping[str, Any]]:
    """Return what decides each engine's answers, by the name of its block."""
    return {block.name: identity(block) for block in plan.logical.engines}
