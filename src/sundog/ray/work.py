"""The rows of a run, worked on by a Ray cluster.

Owns the number of cells and owners of a run. The process is a driver of the cluster already.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import ray

from sundog.cells.cluster_work import ClusterOptions, cluster_work, named_in
from sundog.deployment import default_cells
from sundog.ir.logical import EngineBlock
from sundog.ray.cell_actor import RayCells
from sundog.ray.engines import RayEngines
from sundog.ray.options import RayOptions
from sundog.runtime.feed import OnRow
from sundog.runtime.row_work import OpenWork, RowWork, WorkedRun

CELLS_OF_AN_OWNER = 8


def ray_work(options: RayOptions, base_dir: Path) -> OpenWork:
    """Return the means by which a Ray cluster works on the rows of a run. `base_dir`: the folder of the flow's files,
    which lies at the same path on every node."""
    return partial(_ray_work, options=options, base_dir=base_dir.absolute())


@asynccontextmanager
async def _ray_work(
    run: WorkedRun, on_row: OnRow | None, *, options: RayOptions, base_dir: Path
) -> AsyncIterator[RowWork]:
    num_cells = options.num_cells or default_cells(run.plan, _num_nodes())
    num_owners = options.num_owners or ceil(num_cells / CELLS_OF_AN_OWNER)
    cells = ClusterOptions(num_cells, base_dir, dict(os.environ), options.finish_in_s)
    environment = named_in(run.plan, cells.environment)
    engines: list[RayEngines] = []

    def starter_of(block: EngineBlock) -> RayEngines:
        engines.append(RayEngines(block, environment))
        return engines[-1]

    try:
        async with cluster_work(RayCells(num_owners), cells, starter_of=starter_of)(run, on_row) as work:
            yield work
    finally:
        await asyncio.gather(*(engine.close() for engine in engines))


def _num_nodes() -> int:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # it has no types
    return sum(bool(node["Alive"]) for node in nodes)
