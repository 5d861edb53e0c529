"""The names of pools and workers: what a plan calls the replicas of an engine, and the places of a group.

Owns these names; tools name their pools themselves. Never knows what a pool holds.
"""

from __future__ import annotations

from sundog.ir.logical import WorkerGroup

_ENGINE = "engine:"


def engine_pool(engine: str) -> str:
    """Return the pool of an engine block."""
    return f"{_ENGINE}{engine}"


def engine_of(pool: str) -> str | None:
    """Return the engine block whose pool this is; None for a tool's.

    >>> engine_of(engine_pool("local"))
    'local'
    """
    return pool.removeprefix(_ENGINE) if pool.startswith(_ENGINE) else None


def label_of(pool: str) -> str:
    """Return what users call the engine, database or host behind a pool.

    >>> label_of(engine_pool("local")), label_of("python")
    ('local', 'python')
    """
    return pool.partition(":")[2] or pool


def worker_ids(group: WorkerGroup) -> list[str]:
    """Return the names of a group's workers."""
    return [f"{group.name}-{number}" for number in range(group.count)]
