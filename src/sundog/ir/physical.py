"""The physical plan: how each step runs, where, and what it may share.

Owns the Exec nodes. Never runs them; that is runtime.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from sundog.ir.logical import Filter, LogicalPlan, Loop, RowKey, Step

MAX_RETRY_WAIT_S = 600.0
"""A call whose server asks for a longer wait before the next attempt ends, where the flow says nothing else."""


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
    `max_retry_wait_s`: the longest wait before another attempt that a server may ask for.
    `has_successor`: as soon as a row's call has ended, the row asks again in the same pool.
    """

    step: Step
    pool: str
    sharing: Sharing
    is_effect: bool
    timeout_s: float
    max_attempts: int
    before: tuple[str, ...]
    has_successor: bool = False
    name: str = field(init=False, compare=False, repr=False)
    max_retry_wait_s: float = MAX_RETRY_WAIT_S

    def __post_init__(self) -> None:
        # Each call asks for it a dozen times.
        object.__setattr__(self, "name", self.step.name)


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
class PlannedStep:
    """A step, or its share, on one worker, by the estimate; times in seconds from the start of the run. `is_load`: the
    worker loads the engine of `pool` first."""

    step: str
    pool: str
    epoch: int
    start_s: float
    end_s: float
    is_load: bool


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What one worker runs, in order."""

    worker: str
    steps: tuple[PlannedStep, ...]

    @property
    def pools(self) -> tuple[str, ...]:
        """The engines in order, one after the other never the same."""
        pools = [planned.pool for planned in self.steps]
        return tuple(pool for index, pool in enumerate(pools) if pools[index - 1 : index] != [pool])


@dataclass(frozen=True, slots=True)
class Placement:
    """What the workers run, chosen by `solver` for `objective`. `value`, and `lower_bound`, below which no placement
    is: seconds, or dollars for the objective cost. `basis`: what the figures come from. `needs_s`: when the results of
    each tool step are needed."""

    objective: str
    solver: str
    orders: tuple[WorkerOrder, ...]
    makespan_s: float
    value: float
    lower_bound: float
    basis: str
    needs_s: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class PhysicalPlan:
    """`nodes` in topological order; `policy` names a policy set; `max_rows_in_flight` bounds memory.
    `logical` is what the rewrites left of `written`, the plan as bound, by which a run is known. `row_order`: by what
    rows are read where they do not all fit in flight; empty: as they come. `objective` and `solver`: how steps are
    placed on workers; `placement`: where they are, None before the rows are known, and where there are no workers."""

    logical: LogicalPlan
    nodes: tuple[Exec, ...]
    policy: str
    max_rows_in_flight: int
    written: LogicalPlan
    row_order: tuple[RowKey, ...] = ()
    objective: str = "makespan"
    solver: str = "auto"
    placement: Placement | None = None


def calls_of(nodes: Sequence[Exec]) -> Iterator[CallExec]:
    """Yield every call in a plan, those inside loops too."""
    for node in nodes:
        match node:
            case CallExec():
                yield node
            case LoopExec():
                yield from calls_of(node.body)
