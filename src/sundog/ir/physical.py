"""The physical plan: how each step runs, where, and what it may share.

Owns the Exec nodes. Never runs them; that is runtime.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain

from sundog.ir.logical import Filter, LogicalPlan, Loop, Step, Table, ValueNode
from sundog.ir.sql_types import SQLType

MAX_RETRY_WAIT_S = 600.0
"""A call whose server asks for a longer wait before the next attempt ends, where the flow says nothing else."""


class Sharing(Enum):
    """The reach of one call's result (docs/design.md)."""

    ALWAYS = "always"  # equal calls of any run: deterministic by its own declaration, as a greedy LLM call
    RUN = "run"  # equal calls of this run: read-only, but the world may change between runs
    NEVER = "never"  # this row only


@dataclass(frozen=True, slots=True)
class CallExec:
    """One operator call per row (or per element)."""

    step: Step
    pool: str
    sharing: Sharing
    #: It changes the outside world: claimed before, never repeated by itself.
    is_effect: bool
    #: Seconds of one attempt.
    timeout_s: float
    #: At least 1.
    max_attempts: int
    #: Names in the same scope that must have ended.
    before: tuple[str, ...]
    #: As soon as a row's call has ended, the row asks again in the same pool.
    has_successor: bool = False
    name: str = field(init=False, compare=False, repr=False)
    #: The longest wait before another attempt that a server may ask for.
    max_retry_wait_s: float = MAX_RETRY_WAIT_S

    def __post_init__(self) -> None:
        # Each call asks for it a dozen times.
        object.__setattr__(self, "name", self.step.name)


@dataclass(frozen=True, slots=True)
class LoopExec:
    """A loop as it is executed, turn after turn."""

    loop: Loop
    #: In topological order.
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


@dataclass(frozen=True, slots=True)
class ValueExec:
    """A value is computed from the row's other values, where it is needed; nothing else happens."""

    value: ValueNode
    before: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.value.name


Exec = CallExec | LoopExec | FilterExec | ValueExec


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step, or its share, on one worker, by the estimate; times in seconds from the start of the run."""

    step: str
    pool: str
    epoch: int
    start_s: float
    end_s: float
    #: The worker loads the engine of `pool` first.
    is_load: bool


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """The steps that one worker runs, in order."""

    worker: str
    steps: tuple[PlannedStep, ...]

    @property
    def pools(self) -> tuple[str, ...]:
        """The engines in order, one after the other never the same."""
        pools = [planned.pool for planned in self.steps]
        return tuple(pool for index, pool in enumerate(pools) if pools[index - 1 : index] != [pool])


@dataclass(frozen=True, slots=True)
class Placement:
    """The work of all workers, chosen by `solver` for `objective`."""

    objective: str
    solver: str
    orders: tuple[WorkerOrder, ...]
    makespan_s: float
    #: Seconds, or dollars for the objective cost.
    value: float
    #: No placement has a smaller value.
    lower_bound: float
    #: A phrase that says where the figures come from.
    basis: str
    #: By tool step, when its results are needed.
    needs_s: tuple[tuple[str, float], ...]
    #: By step, its place among those of its engine, from 0, in the order in which calls run; mostly where some worker's
    #: engines take turns, and empty where rows go first. Steps of one place run side by side on different workers.
    places: tuple[tuple[str, int], ...]
    #: How many windows of rows there are, each in flight as others end; the workers do the same for each, and the times
    #: of their steps are those of the first.
    num_windows: float = 1.0


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """The type of a table's column, as queries see it."""

    name: str
    type: SQLType
    #: The values come from elsewhere than a column of that type, so that each is looked at before its row has ended.
    is_checked: bool


@dataclass(frozen=True, slots=True)
class TableExec:
    """A table as it is executed."""

    table: Table
    #: In topological order.
    nodes: tuple[Exec, ...]
    #: The table whose rows this one's are made of one by one, so that each is taken up as soon as that has ended; None
    #: where the query runs once, when all that it reads has ended, and for the rows of an input.
    stream_of: str | None = None
    #: The tables that must have ended before: those that the query reads beside `stream_of`, and those that touch the
    #: same outside state and are written before.
    waits_for: tuple[str, ...] = ()
    #: A phrase, as in "it groups its rows", that says why the query waits; "" where it does not.
    why_it_waits: str = ""
    #: The number of nodes above it, in the tables that it is made of.
    depth: int = 0
    #: The columns as queries see them; none where no query reads the table.
    columns: tuple[TypedColumn, ...] = ()
    #: A table that reads this one marks what its failed rows belong to.
    is_marked: bool = False

    @property
    def name(self) -> str:
        return self.table.name


@dataclass(frozen=True, slots=True)
class PhysicalPlan:
    """A plan as it is executed."""

    #: The plan that the rewrites left of `written`.
    logical: LogicalPlan
    #: In topological order.
    tables: tuple[TableExec, ...]
    #: The name of a policy set.
    policy: str
    #: Bounds memory.
    max_rows_in_flight: int
    #: The plan as bound, by which a run is known.
    written: LogicalPlan
    #: The quantity that the placement of steps on workers makes small.
    objective: str = "makespan"
    #: The solver that places them.
    solver: str = "auto"
    #: None before the rows are known, and where there are no workers.
    placement: Placement | None = None
    #: By pool, how many calls each of its replicas takes at once from this process, at first, where others have the
    #: rest of its limit; none where this process has all of them. They change no answer.
    shares: Mapping[str, int] = field(default_factory=dict, compare=False)

    def table(self, name: str) -> TableExec:
        return next(table for table in self.tables if table.name == name)

    @property
    def nodes(self) -> tuple[Exec, ...]:
        """The nodes of all tables, those of one table after those of the tables that it reads."""
        return tuple(chain.from_iterable(table.nodes for table in self.tables))


def calls_of(nodes: Sequence[Exec]) -> Iterator[CallExec]:
    """Yield every call in a plan, those inside loops too."""
    for node in nodes:
        match node:
            case CallExec():
                yield node
            case LoopExec():
                yield from calls_of(node.body)
