"""The machines that a user asks about: a cluster, or this machine alone.

Owns what may be asked. Connects to no cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sundog.config import local_state
from sundog.errors import ConfigError, suggest

CLUSTERS = ("ray",)


@dataclass(frozen=True, slots=True)
class OnCluster:
    """The machines of a cluster."""

    #: The name of the cluster's engine.
    on: str
    #: None for as many cells as a run has on one node.
    num_cells: int | None
    #: The folder that the state is meant to be in, None where it is at a URL.
    state: Path | None


def machines_asked(on: str | None, num_cells: int | None, state: str | Path | None) -> OnCluster | None:
    """Return the cluster that is asked about, None for this machine alone; ConfigError for an unknown one, and for
    cells without one. `state`: the folder or URL, None for the environment's."""
    if on is None:
        if num_cells is not None:
            raise ConfigError("cells are the processes of a run on a cluster", hint="say which: on ray")
        return None
    if on not in CLUSTERS:
        raise ConfigError(f"nothing runs on '{on}'", hint=suggest(on, CLUSTERS))
    return OnCluster(on, num_cells, local_state(None if state is None else str(state)))
