"""The figures that say how close each engine came to the least time that its work can take.

Owns the figures and their text. Only what this process ran is in them, or its cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sundog.deployment import num_replicas, pool_of
from sundog.engines.embedded.models import cache_folder
from sundog.ir.logical import EngineBlock
from sundog.ir.pool_names import engine_pool
from sundog.measured.profiles import load_profile
from sundog.runtime.figures.pool_work import PoolWork


@dataclass(frozen=True, slots=True)
class EngineReport:
    """The figures of one engine in this process and its cells."""

    engine: str
    num_calls: int
    #: Seconds from the engine's first request to its last answer.
    wall_s: float
    #: The work bound: the least seconds for the prompt tokens and the answers of the executed calls, None where the
    #: engine is not calibrated.
    bound_s: float | None
    achieved: float | None
    #: The prompt tokens that the bound counts: `distinct` (each block of a common prefix once), or `computed` where the
    #: engine does not tell the blocks.
    bound_of: str

    def __str__(self) -> str:
        head = f"engine   {self.engine}: {self.num_calls:,} calls in {self.wall_s:,.1f} s"
        if self.bound_s is None or self.achieved is None:
            return f"{head}; for the work bound: sundog calibrate FLOW --engine {self.engine}"
        return (
            f"{head}, work bound {self.bound_s:,.1f} s of {self.bound_of} prompt tokens: {self.achieved:.0%} achieved"
        )


def engine_reports(blocks: Sequence[EngineBlock], work: Mapping[str, PoolWork]) -> tuple[EngineReport, ...]:
    """Return the reports of the engines that executed something, in the order of the flow. `work`: by pool."""
    found: list[EngineReport] = []
    for block in blocks:
        done = work.get(engine_pool(block.name))
        if done is None or not done.num_calls:
            continue
        profile = load_profile(cache_folder(), block)
        bound_s = achieved = None
        if profile is not None and pool_of(block) is None:
            from sundog.cost.profile import least_seconds

            bound_s = least_seconds(done.work * (1 / num_replicas(block)), profile)
            achieved = bound_s / done.wall_s if done.wall_s > 0 else None
        bound_of = "distinct" if done.is_distinct else "computed"
        found.append(EngineReport(block.name, done.num_calls, done.wall_s, bound_s, achieved, bound_of))
    return tuple(found)
