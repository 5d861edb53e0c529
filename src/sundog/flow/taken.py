"""The parts of a flow by their names: its own, and those that come along with tables of other flows.

Owns nothing but their gathering.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sundog.ir.logical import EngineBlock, InputSource, Table, WorkerGroup


@dataclass(slots=True)
class Taken:
    """The parts of a flow that is being bound."""

    engines: dict[str, EngineBlock]
    workers: dict[str, WorkerGroup]
    inputs: dict[str, InputSource]
    constants: dict[str, Any]
    #: The tables of other flows, in the order in which they are read.
    tables: dict[str, Table] = field(default_factory=dict)
    #: By pool, the limits of other flows.
    limits: dict[str, int] = field(default_factory=dict)
