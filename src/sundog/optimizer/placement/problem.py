"""The placement problem of one consolidated batch, and the form of its answer.

Owns these dataclasses and the check that a problem makes sense. Never computes a cost; that is `simulate`.
All times are seconds for the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from math import inf

from sundog.errors import PlanError, suggest
from sundog.optimizer.placement.objective import Objective


@dataclass(frozen=True, slots=True)
class Model:
    """One model and its loads."""

    name: str
    #: Seconds of a load into free room of a replica.
    load_s: float
    #: Seconds of a load where another resident model must leave first.
    switch_s: float


@dataclass(frozen=True, slots=True)
class Replica:
    """A running engine."""

    name: str
    #: The models that it may serve.
    models: frozenset[str]
    #: Models loaded at time 0, longest unused first.
    resident: tuple[str, ...] = ()
    #: Models that fit at once.
    max_resident: int = 1
    usd_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LLMNode:
    """The calls of one LLM step."""

    name: str
    model: str
    #: Seconds of the whole batch on one replica with no KV cache to reuse.
    exec_s: float
    parents: tuple[str, ...] = ()
    #: The part of `exec_s`, in [0, 1), that is saved right after a direct parent of the same model.
    kv_saved_share: float = 0.0
    #: The number of replicas over which the batch may be split, 1 for none.
    max_replicas: int = 1
    #: Seconds that the rows take which one replica runs at once; infinite where those are the whole batch.
    wave_s: float = inf
    #: Seconds of one call: no part takes less, however few rows it has. It leaves the places that it has no rows for to
    #: others meanwhile.
    call_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ToolNode:
    """Work beside the replicas: SQL, HTTP, Python. `wave_s` and `call_s` as of an LLM node."""

    name: str
    #: Seconds of the whole batch with all the places of its pool.
    exec_s: float
    parents: tuple[str, ...] = ()
    wave_s: float = inf
    #: The database or host whose places it shares with the other tools that name it; None shares with none.
    pool: str | None = None
    call_s: float = 0.0
    #: Nothing behind it begins before all rows of its parents have ended; it takes no time of its own.
    is_barrier: bool = False


@dataclass(frozen=True, slots=True)
class PlacementProblem:
    """The steps to place and the places for them. PlanError where no placement can be valid."""

    llm_nodes: tuple[LLMNode, ...]
    tool_nodes: tuple[ToolNode, ...]
    models: tuple[Model, ...]
    replicas: tuple[Replica, ...]
    objective: Objective = Objective.MAKESPAN
    #: How many times the batch comes, each time as the rows of the time before end; all figures are of one time.
    num_windows: float = 1.0

    @property
    def nodes(self) -> tuple[LLMNode | ToolNode, ...]:
        return (*self.llm_nodes, *self.tool_nodes)

    def __post_init__(self) -> None:
        _check_unique("node", (node.name for node in self.nodes))
        _check_unique("model", (model.name for model in self.models))
        _check_unique("replica", (replica.name for replica in self.replicas))
        for replica in self.replicas:
            _check_replica(replica, {model.name for model in self.models})
        for node in self.llm_nodes:
            _check_llm_node(node, self.replicas)
        _check_numbers(self)
        _check_order({node.name: node.parents for node in self.nodes})


@dataclass(frozen=True, slots=True)
class Assignment:
    """A node and the replicas that share its batch in equal parts; none for a tool."""

    node: str
    replicas: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shard:
    """A node's part on one replica; before it, where `is_load`, the replica loads the node's model for `load_s`."""

    node: str
    replica: str
    is_load: bool
    load_start_s: float
    load_s: float
    start_s: float
    end_s: float
    #: Seconds that the KV cache of a parent saved.
    kv_saved_s: float


@dataclass(frozen=True, slots=True)
class NodeSpan:
    """Estimated start and end of a node, and its epoch (see `simulate`)."""

    node: str
    start_s: float
    end_s: float
    epoch: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """The course that a sequence of assignments takes; `spans` and `shards` are in the order of the sequence."""

    objective: Objective
    value: float
    spans: tuple[NodeSpan, ...]
    shards: tuple[Shard, ...]

    @property
    def makespan_s(self) -> float:
        return max((span.end_s for span in self.spans), default=0.0)

    @property
    def epochs(self) -> tuple[tuple[str, ...], ...]:
        """The nodes of each planning stage. A stage is no barrier: nothing waits for it."""
        last = max((span.epoch for span in self.spans), default=-1)
        return tuple(tuple(s.node for s in self.spans if s.epoch == epoch) for epoch in range(last + 1))

    @property
    def model_loads(self) -> tuple[Shard, ...]:
        """The shards before which a model is loaded."""
        return tuple(shard for shard in self.shards if shard.is_load)

    def order_on(self, replica: str) -> tuple[str, ...]:
        return tuple(shard.node for shard in self.shards if shard.replica == replica)


@dataclass(frozen=True, slots=True)
class PlacementSolution:
    """A solver's answer."""

    #: The decision.
    sequence: tuple[Assignment, ...]
    #: The course that the sequence takes.
    timeline: Timeline
    #: The name of what found it.
    solver: str
    #: No placement has a value below it.
    lower_bound: float
    #: It is proven that no placement has a smaller value.
    is_optimal: bool

    @property
    def value(self) -> float:
        return self.timeline.value


Solver = Callable[[PlacementProblem], PlacementSolution]


def _check_unique(kind: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise PlanError(f"two {kind}s are named '{name}'", where=f"{kind} {name}", hint="names must differ")
        seen.add(name)


def _check_replica(replica: Replica, models: set[str]) -> None:
    where = f"replica {replica.name}"
    for name in sorted(replica.models | set(replica.resident)):
        if name not in models:
            raise PlanError(f"unknown model '{name}'", where=where, hint=suggest(name, models))
    if not set(replica.resident) <= replica.models or len(set(replica.resident)) < len(replica.resident):
        raise PlanError("resident models must be different ones that it can serve", where=where)
    if replica.max_resident < max(1, len(replica.resident)):
        raise PlanError(
            f"{len(replica.resident)} models resident, room for {replica.max_resident}",
            where=where,
            hint="max_resident is at least 1 and at least the number of resident models",
        )
    if not 0 <= replica.usd_per_s < inf:
        raise PlanError(f"a price of {replica.usd_per_s}", where=where, hint="usd_per_s must be at least 0")


def _check_llm_node(node: LLMNode, replicas: tuple[Replica, ...]) -> None:
    where = f"node {node.name}"
    if not any(node.model in replica.models for replica in replicas):
        raise PlanError(
            f"no replica can serve model '{node.model}'",
            where=where,
            hint=suggest(node.model, {name for replica in replicas for name in replica.models}),
        )
    if not 0 <= node.kv_saved_share < 1 or node.max_replicas < 1:
        raise PlanError("kv_saved_share must be in [0, 1) and max_replicas at least 1", where=where)


def _check_numbers(problem: PlacementProblem) -> None:
    for node in problem.nodes:
        if not 0 <= node.exec_s < inf:
            raise PlanError(
                f"exec_s of {node.exec_s}", where=f"node {node.name}", hint="seconds are finite and at least 0"
            )
        if not node.wave_s >= 0:
            raise PlanError(f"wave_s of {node.wave_s}", where=f"node {node.name}", hint="it is at least 0")
        if not 0 <= node.call_s < inf:
            raise PlanError(
                f"call_s of {node.call_s}", where=f"node {node.name}", hint="seconds are finite and at least 0"
            )
    for model in problem.models:
        if not 0 <= model.load_s <= model.switch_s < inf:
            raise PlanError(
                f"load_s {model.load_s}, switch_s {model.switch_s}",
                where=f"model {model.name}",
                hint="a switch is a load and more: 0 <= load_s <= switch_s",
            )


def _check_order(parents: dict[str, tuple[str, ...]]) -> None:
    for name, before in parents.items():
        for parent in before:
            if parent not in parents:
                raise PlanError(f"unknown parent '{parent}'", where=f"node {name}", hint=suggest(parent, parents))
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        raise PlanError(f"nodes wait for each other: {' -> '.join(reversed(error.args[1]))}") from error
