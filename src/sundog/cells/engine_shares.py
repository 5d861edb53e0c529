"""The engines and limits that each cell of a run begins with.

Owns how a plan is divided among cells. Limits that several cells share are shared anew while they run: cluster.shares
decides that. What decides answers is the same in every part, so calls have the same keys in all cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from sundog.cluster.shares import fair_amounts
from sundog.deployment import num_replicas, opened, outside_limits, pool_of, rows_in_flight, used_engines
from sundog.errors import ConfigError
from sundog.ir.logical import EngineBlock
from sundog.ir.physical import PhysicalPlan
from sundog.ir.pool_names import engine_pool
from sundog.operators.base import Operator


def cell_plan(plan: PhysicalPlan, operators: Mapping[str, Operator], place: int, num_cells: int) -> PhysicalPlan:
    """Return the plan of the cell at `place`, from 0, of `num_cells`.

    An engine with a replica for each cell gives the cell every `num_cells`-th one from `place` on, for itself alone. Of
    an engine with fewer, as a hosted one or a router, the cell has all replicas and a share of the calls that each
    takes at once; of a tool's limit it has a share, too, which is 0 where there are more cells than calls: its calls
    wait until the limit is shared anew. The servers of a pool are told to the cells that get them. The parts of all
    cells together never pass a limit. ConfigError where an engine has no place for each cell, or is loaded on workers.
    """
    assert 0 <= place < num_cells, f"there is no place {place} among {num_cells}"
    engines = tuple(_part(block, place, num_cells) for block in plan.logical.engines)
    limits = shared_limits(plan, operators, num_cells)
    part = replace(
        plan,
        logical=replace(plan.logical, engines=engines),
        shares={pool: share_at(limit, place, num_cells) for pool, limit in limits.items()},
    )
    return replace(part, max_rows_in_flight=min(plan.max_rows_in_flight, rows_in_flight(part)))


def share_at(amount: int, place: int, num_cells: int) -> int:
    """Return the first share of the cell at `place`, from 0. The shares of all cells make the whole amount.

    >>> [share_at(10, place, 4) for place in range(4)]
    [3, 3, 2, 2]
    """
    cells = {str(number): 0 for number in range(num_cells)}
    return fair_amounts(amount, cells)[str(place)]


def shared_limits(plan: PhysicalPlan, operators: Mapping[str, Operator], num_cells: int) -> dict[str, int]:
    """Return by pool the limits of calls at once that the cells share: of each replica of an engine that has too few
    for all cells, and of tools. `plan`: the whole one. ConfigError as `cell_plan`."""
    engines = {}
    for block in used_engines(plan):
        if block.workers is not None:
            raise ConfigError(
                f"the engine '{block.name}' is loaded on workers, which are places of one machine",
                where=block.location,
                hint=f"take `workers: {block.workers}` away; with base_url it has one address for each server",
            )
        if _is_shared(block, num_cells):
            limit = engines[engine_pool(block.name)] = opened(block)[1].max_concurrency
            if limit < num_cells:
                raise ConfigError(
                    f"the engine '{block.name}' takes {limit} requests at once, and {num_cells} cells want one each",
                    where=block.location,
                    hint=f"take at most {limit} cells, or write a larger max_concurrency",
                )
    return engines | outside_limits(plan, operators)


def _is_shared(block: EngineBlock, num_cells: int) -> bool:
    return block.workers is None and pool_of(block) is None and num_replicas(block) < num_cells


def _part(block: EngineBlock, place: int, num_cells: int) -> EngineBlock:
    if block.workers is not None or pool_of(block) is not None or _is_shared(block, num_cells):
        return block
    return replace(block, options={**block.options, **dict(_own_replicas(block, place, num_cells))})


def _own_replicas(block: EngineBlock, place: int, num_cells: int) -> Iterator[tuple[str, Any]]:
    own = range(place, num_replicas(block), num_cells)
    yield "replicas", len(own)
    urls = block.options.get("base_url")
    if urls and not isinstance(urls, str):
        yield "base_url", [urls[number] for number in own]
