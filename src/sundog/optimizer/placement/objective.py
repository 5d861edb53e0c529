"""The quantities that a placement makes small, and the names by which a flow says them.

Owns the objectives. Never computes one; that is `simulate`.
"""

from __future__ import annotations

from enum import Enum

from sundog.errors import ConfigError, suggest


class Objective(Enum):
    """The quantity that is made small.

    MAKESPAN: the end of the last node. MEAN_COMPLETION: the mean end of the nodes that no other node reads. COST:
    dollars; a replica is paid from time 0 until its last work ends, waiting included, and not at all when unused.
    """

    MAKESPAN = "makespan"
    MEAN_COMPLETION = "mean-completion"
    COST = "cost"


def objective_named(name: str) -> Objective:
    """Return the objective called `name`; ConfigError for an unknown name."""
    known = [objective.value for objective in Objective]
    if name not in known:
        raise ConfigError(f"unknown objective '{name}'", hint=suggest(name, known))
    return Objective(name)
