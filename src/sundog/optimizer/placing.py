"""Steps on workers: from a physical plan and its figures to a placement problem, and from the solver's answer back.

Owns both translations. Never searches; that is `placement`. Never estimates; the figures are handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sundog.cost.estimate import Estimate
from sundog.errors import ConfigError
from sundog.ir.logical import WorkerGroup
from sundog.ir.physical import CallExec, Exec, FilterExec, LoopExec, PhysicalPlan, PlannedStep, WorkerOrder
from sundog.ir.physical import Placement as Placed
from sundog.optimizer.placement.choose import objective_named, solver_named
from sundog.optimizer.placement.problem import LLMNode, Model, Objective, Placement, PlacementProblem, Replica, ToolNode

DEFAULT_LOAD_S = 10.0
"""Of an engine that was never loaded here."""
DEFAULT_CALL_S = 0.1
"""Seconds of one replica for one call, where nothing is known; a tool's call is taken to be as long."""
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds of the batch. `exec_s`: by step, the whole batch on one replica, or by its tool; `load_s`: by engine
    pool. `basis`: where they come from, as a phrase for explain."""

    exec_s: Mapping[str, Estimate]
    load_s: Mapping[str, float]
    basis: str

    def left(self, shares: Mapping[str, float], basis: str) -> Figures:
        """The figures of what remains: `shares`, by step, of the batch."""
        return Figures({step: exec_s * shares[step] for step, exec_s in self.exec_s.items()}, self.load_s, basis)


@dataclass(frozen=True, slots=True)
class Places:
    """Where an engine pool's calls can run: on the workers of its group, or on `num_replicas` that stay loaded."""

    pool: str
    group: WorkerGroup | None
    num_replicas: int

    @property
    def names(self) -> list[str]:
        name = self.pool if self.group is None else self.group.name
        return [f"{name}-{number}" for number in range(self.num_replicas)]


@dataclass(frozen=True, slots=True)
class _Part:
    """One call of a plan, or a filter (no call), and the parts before it."""

    name: str
    call: CallExec | None
    parents: tuple[str, ...]


def figures_by_calls(plan: PhysicalPlan, num_rows: int, load_s: Mapping[str, float]) -> Figures:
    """Where nothing was measured: every row calls every step, all calls take as long; any of that may be off by a
    factor of ten. A loop makes all its turns."""
    exec_s = {
        call.name: Estimate(0.1, 1.0, 10.0) * (num_rows * turns * DEFAULT_CALL_S)
        for call, turns in _calls_with_turns(plan.nodes, 1)
    }
    return Figures(exec_s, load_s, "call counts alone, all calls taken as equal")


def place_steps(plan: PhysicalPlan, places: Sequence[Places], figures: Figures) -> Placed | None:
    """The placement by the plan's objective and solver; None where no step runs on a worker. `places`: of every engine
    pool that a step uses. ConfigError for the objective cost without a price."""
    if not any(place.group for place in places):
        return None
    problem = placement_problem(plan, places, figures)
    found = solver_named(plan.solver)(problem)
    return _placed(plan, problem, found, figures.basis)


def placement_problem(plan: PhysicalPlan, places: Sequence[Places], figures: Figures) -> PlacementProblem:
    """A node for each call of the plan: a loop's steps once, in their order."""
    objective = objective_named(plan.objective)
    groups = {place.group for place in places if place.group is not None}
    if objective is Objective.COST and not any(group.usd_per_hour for group in groups):
        raise ConfigError("the objective cost needs prices", hint="write usd_per_hour in the groups of `workers`")
    by_pool = {place.pool: place for place in places}
    llm_nodes: list[LLMNode] = []
    tool_nodes: list[ToolNode] = []
    for part in _parts(plan.nodes):
        exec_s = figures.exec_s[part.name].expected if part.call else 0.0
        if part.call and part.call.pool in by_pool:
            width = by_pool[part.call.pool].num_replicas
            llm_nodes.append(LLMNode(part.name, part.call.pool, exec_s, part.parents, max_replicas=width))
        else:
            tool_nodes.append(ToolNode(part.name, exec_s, part.parents))
    # Each tool has limits of its own, so that its time is known already; none waits for another one's worker.
    return PlacementProblem(
        tuple(llm_nodes),
        tuple(tool_nodes),
        tuple(Model(pool, figures.load_s[pool], figures.load_s[pool]) for pool in by_pool),
        tuple(_replicas(places)),
        max(1, len(tool_nodes)),
        objective,
    )


def _replicas(places: Sequence[Places]) -> Iterator[Replica]:
    shared: dict[str, list[Places]] = {}
    for place in places:
        shared.setdefault(place.names[0], []).append(place)
    for users in shared.values():
        first, pools = users[0], frozenset(place.pool for place in users)
        for name in first.names:
            if first.group is None:
                yield Replica(name, pools, (first.pool,))
            else:
                price = first.group.usd_per_hour / HOUR_S
                yield Replica(name, pools, max_resident=first.group.max_resident, usd_per_s=price)


def _parts(nodes: Sequence[Exec]) -> Iterator[_Part]:
    yield from _parts_below(nodes, (), {})


def _parts_below(nodes: Sequence[Exec], above: tuple[str, ...], ends: dict[str, tuple[str, ...]]) -> Iterator[_Part]:
    """`above`: what a loop waits for, its first steps wait for. `ends`: by node, the parts that it consists of."""
    for node in nodes:
        parents = tuple(dict.fromkeys(part for name in node.before for part in ends[name])) or above
        match node:
            case CallExec():
                own = [_Part(node.name, node, parents)]
            case FilterExec():
                own = [_Part(node.name, None, parents)]
            case LoopExec():
                own = list(_parts_below(node.body, parents, {}))
        ends[node.name] = tuple(part.name for part in own)
        yield from own


def _calls_with_turns(nodes: Sequence[Exec], turns: int) -> Iterator[tuple[CallExec, int]]:
    for node in nodes:
        match node:
            case CallExec():
                yield node, turns
            case LoopExec():
                yield from _calls_with_turns(node.body, turns * node.loop.max_turns)


def _placed(plan: PhysicalPlan, problem: PlacementProblem, found: Placement, basis: str) -> Placed:
    timeline = found.timeline
    epochs = {span.node: span.epoch for span in timeline.spans}
    pools = {node.name: node.model for node in problem.llm_nodes}
    orders = tuple(
        WorkerOrder(
            replica.name,
            tuple(
                PlannedStep(one.node, pools[one.node], epochs[one.node], one.start_s, one.end_s, one.is_load)
                for one in timeline.shards
                if one.replica == replica.name
            ),
        )
        for replica in problem.replicas
        if not replica.resident
    )
    return Placed(
        plan.objective,
        found.solver,
        orders,
        timeline.makespan_s,
        found.value,
        found.lower_bound,
        basis,
        tuple(_needs(problem, {span.node: span.start_s for span in timeline.spans}, timeline.makespan_s).items()),
    )


def _needs(problem: PlacementProblem, starts_s: Mapping[str, float], makespan_s: float) -> dict[str, float]:
    """When the results of each tool are needed: by the first LLM node that reads them, by way of other tools too."""
    readers: dict[str, list[str]] = {node.name: [] for node in problem.nodes}
    for node in problem.nodes:
        for parent in node.parents:
            readers[parent].append(node.name)
    exec_s = {tool.name: tool.exec_s for tool in problem.tool_nodes}
    needs: dict[str, float] = {}

    def need_s(name: str) -> float:
        if name not in exec_s:
            return starts_s[name]
        if name not in needs:
            needs[name] = min(
                (need_s(reader) - exec_s.get(reader, 0.0) for reader in readers[name]), default=makespan_s
            )
        return needs[name]

    return {name: need_s(name) for name in exec_s}
