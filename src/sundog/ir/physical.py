"""The physical plan: how each step runs, where, and what it may share.

Owns the Exec nodes. Never runs them; that is runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sundog.ir.logical import Filter, LogicalPlan, Loop, RowKey, Step


class Sharing(Enum):
    """How far one call's result reaches (docs/design.md)."""

    ALWAYS = "always"  # equal calls of any run: deterministic by its own declaration, as a greedy LLM call
    RUN = "run"  # equal calls of this run: read-only, but the world may change between runs
    NEVER = "never"  # this row only


@dataclass(frozen=True, slots=True)
class CallExec:
    """One operator call per row (or per element).

    `is_effect`: changes the outside world; claimed before, never repeated by itself.
    `before`: names in the same scope that must have ended. `max_attempts` >= 1. `timeout_s` of one attempt.
    """

    step: Step
    pool: str
    sharing: Sharing
    is_effect: bool
    timeout_s: float
    max_attempts: int
    before: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.step.name


@dataclass(frozen=True, slots=True)
class LoopExec:
    """How a loop runs: `body` in topological order, turn after turn."""

    loop: Loop
    body: tuple[Exec, ...]
    before: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.loop.name


@dataclass(frozen=True, slots=True)
class FilterExec:
    """A row ends here when the condition is false."""

    filter: Filter
    before: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.filter.name


Exec = CallExec | LoopExec | FilterExec


@dataclass(frozen=True, slots=True)
class PhysicalPlan:
    """`nodes` in topological order; `policy` names a policy set; `max_rows_in_flight` bounds memory.
    `logical` is what the rewrites left of `written`, the plan as bound, by which a run is known. `row_order`: by what
    rows are read where they do not all fit in flight; empty: as they come."""

    logical: LogicalPlan
    nodes: tuple[Exec, ...]
    policy: str
    max_rows_in_flight: int
    written: LogicalPlan
    row_order: tuple[RowKey, ...] = ()
