"""The time of loading an engine: measured by every run, kept with the history of the state folder.

Owns the key under which it is kept, by what decides the engine's answers, whatever flow and name it is loaded for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sundog.cost.history import NodeRecord
from sundog.deployment import identities, used_engines
from sundog.ir.physical import PhysicalPlan
from sundog.ir.pool_names import engine_pool
from sundog.ir.values.canonical import canonical_json
from sundog.measured.node_history import extend_history, read_history
from sundog.optimizer.placement_figures import ASSUMED_LOAD_S

ANY_FLOW = ""
LOAD = "load"


def expected_loads(state_dir: Path, plan: PhysicalPlan) -> dict[str, float]:
    """Return the seconds by engine pool: the mean of the loads known here, else what is assumed."""
    known = known_loads(state_dir, plan)
    return {pool: known.get(pool, ASSUMED_LOAD_S.expected) for pool in _identities(plan)}


def known_loads(state_dir: Path, plan: PhysicalPlan) -> dict[str, float]:
    """Return the mean seconds of a load of each engine pool that was ever loaded here."""
    history = read_history(state_dir, ANY_FLOW)
    records = {pool: history.get((LOAD, identity)) for pool, identity in _identities(plan).items()}
    return {pool: record.call_s.mean for pool, record in records.items() if record is not None and record.call_s.counts}


def keep_loads(state_dir: Path, plan: PhysicalPlan, took_s: Mapping[str, Sequence[float]]) -> None:
    """Add the loads of one process's part of a run, by engine pool."""
    by_pool = _identities(plan)
    records: dict[tuple[str, str], NodeRecord] = {}
    for pool, values in took_s.items():
        record = records.setdefault((LOAD, by_pool[pool]), NodeRecord())
        for value in values:
            record.call_s.add(value)
    extend_history(state_dir, ANY_FLOW, records)


def _identities(plan: PhysicalPlan) -> dict[str, str]:
    known = identities(plan)
    return {
        engine_pool(block.name): canonical_json(known[block.name]).decode("utf-8", "surrogatepass")
        for block in used_engines(plan)
    }
