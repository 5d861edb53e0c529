"""The way from a physical plan and its figures to a placement problem, and from the solver's answer back.

Owns both translations. Never searches; that is `placement`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from statistics import fmean

from sundog.errors import ConfigError
from sundog.ir.physical import (
    CallExec,
    Exec,
    FilterExec,
    LoopExec,
    PhysicalPlan,
    Placement,
    PlannedStep,
    TableExec,
    ValueExec,
    WorkerOrder,
)
from sundog.optimizer.placement.bound import Bound
from sundog.optimizer.placement.choose import AUTO, candidates, has_turns, solver_named
from sundog.optimizer.placement.indexed import Indexed
from sundog.optimizer.placement.objective import Objective, objective_named
from sundog.optimizer.placement.problem import (
    LLMNode,
    Model,
    NodeSpan,
    PlacementProblem,
    PlacementSolution,
    Replica,
    ToolNode,
)
from sundog.optimizer.placement.schedule import Schedule
from sundog.optimizer.placement.windows import AllWindows, assigned_steps
from sundog.optimizer.placement_figures import PlacementFigures, PoolReplicas

HOUR_S = 3600.0
BARRIER = "rows of "
"""Begins the name of the part before a table that waits for others; no step can be called so."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One call of a plan, or a filter (no call), and the parts before it."""

    name: str
    call: CallExec | None
    parents: tuple[str, ...]
    #: The parts behind it wait for all rows before it.
    is_barrier: bool = False


def place_on_workers(
    plan: PhysicalPlan,
    replicas: Sequence[PoolReplicas],
    figures: PlacementFigures,
    residents: Mapping[str, tuple[str, ...]],
) -> Placement:
    """Return the placement by the plan's objective and solver, where some step runs on a worker."""
    problem = placement_problem(plan, replicas, figures, residents)
    found = solver_named(plan.solver)(problem)
    placement = _placed(plan, problem, found, replicas, figures)
    return replace(placement, places=_places(problem, found)) if has_turns(problem, found) else placement


def candidates_on_workers(
    plan: PhysicalPlan, replicas: Sequence[PoolReplicas], figures: PlacementFigures
) -> list[Placement]:
    """Return the placements of which a simulation is to choose, all different, where some step runs on a worker. For
    `auto` and the makespan they are a few, and those in which engines stay, or for which there is more than one window,
    come once with the plan's order of steps and once with that of the rows; else it is the one that the user has
    named."""
    if plan.solver != AUTO or plan.objective != Objective.MAKESPAN.value:
        return [place_on_workers(plan, replicas, figures, {})]
    problem = placement_problem(plan, replicas, figures, {})
    first: list[Placement] = []
    others: list[Placement] = []
    for one in candidates(problem):
        by_rows = _placed(plan, problem, one, replicas, figures)
        by_steps = replace(by_rows, places=_places(problem, one))
        has_own_order = has_turns(problem, one)
        first.append(by_steps if has_own_order else by_rows)
        if problem.num_windows > 1 or not has_own_order:
            others.append(by_rows if has_own_order else by_steps)
    return _different([*first, *others])


def _different(placements: Sequence[Placement]) -> list[Placement]:
    """Return the first of those that are equal but for what found them."""
    found: dict[object, Placement] = {}
    for one in placements:
        found.setdefault((one.orders, one.places), one)
    return list(found.values())


def placement_problem(
    plan: PhysicalPlan,
    replicas: Sequence[PoolReplicas],
    figures: PlacementFigures,
    residents: Mapping[str, tuple[str, ...]],
) -> PlacementProblem:
    """Return a problem with a node for each call of the plan that has something to do: a loop's steps once, in their
    order. Of more rows than may be in flight it is that of one window."""
    num_windows = max(1.0, figures.num_rows / plan.max_rows_in_flight)
    figures = figures.of_share(1 / num_windows)
    objective = objective_named(plan.objective)
    groups = {one.group for one in replicas if one.group is not None}
    if objective is Objective.COST and not any(group.usd_per_hour for group in groups):
        raise ConfigError("the objective cost needs prices", hint="write usd_per_hour in the groups of `workers`")
    by_pool = {one.pool: one for one in replicas}
    llm_nodes: list[LLMNode] = []
    tool_nodes: list[ToolNode] = []
    waves_s: dict[str, list[float]] = {pool: [] for pool in by_pool}
    parts = [part for part in _parts(plan.tables) if part.call is None or part.name in figures.exec_s]
    left = {part.name for part in parts}
    for part in parts:
        parents = tuple(parent for parent in part.parents if parent in left)
        if part.call is None:
            tool_nodes.append(ToolNode(part.name, 0.0, parents, 0.0, is_barrier=part.is_barrier))
            continue
        exec_s, pool = figures.exec_s[part.name].expected, part.call.pool
        num_waves = figures.num_waves[part.name]
        wave_s = exec_s / max(1.0, num_waves)
        if pool in by_pool:
            width = by_pool[pool].num_replicas
            llm_nodes.append(LLMNode(part.name, pool, exec_s, parents, 0.0, width, wave_s, wave_s))
            waves_s[pool].append(wave_s if wave_s < exec_s else 0.0)
        else:
            # A tool's call is as long whatever else is asked meanwhile.
            call_s = exec_s / num_waves if num_waves else 0.0
            tool_nodes.append(ToolNode(part.name, exec_s, parents, wave_s, pool, call_s))
    return PlacementProblem(
        tuple(llm_nodes),
        tuple(tool_nodes),
        tuple(_model(pool, figures.load_s[pool], waves_s[pool]) for pool in by_pool),
        tuple(_replicas(replicas, residents)),
        objective,
        num_windows,
    )


def _model(pool: str, load_s: float, waves_s: Sequence[float]) -> Model:
    """While its last calls end, and while the first ones of the next engine come, half of a worker's places are empty:
    a turn costs a wave beside the load. Of a step that is one wave, its seconds have that already."""
    return Model(pool, load_s, load_s + (fmean(waves_s) if waves_s else 0.0))


def _replicas(replicas: Sequence[PoolReplicas], residents: Mapping[str, tuple[str, ...]]) -> Iterator[Replica]:
    shared: dict[str, list[PoolReplicas]] = {}
    for one in replicas:
        shared.setdefault(one.names[0], []).append(one)
    for users in shared.values():
        first, pools = users[0], frozenset(one.pool for one in users)
        for name in first.names:
            if first.group is None:
                yield Replica(name, pools, (first.pool,))
            else:
                price = first.group.usd_per_hour / HOUR_S
                yield Replica(name, pools, residents.get(name, ()), first.group.max_resident, price)


def _parts(tables: Sequence[TableExec]) -> Iterator[_Part]:
    """Yield the parts table by table, those of a table behind a barrier where it waits for others to end."""
    ends: dict[str, tuple[str, ...]] = {}
    for table in tables:
        before = tuple(dict.fromkeys(part for name in table.waits_for for part in ends[name]))
        barrier = [_Part(f"{BARRIER}{table.name}", None, before, is_barrier=True)] if before else []
        flowing = () if table.stream_of is None else ends[table.stream_of]
        above = (*flowing, *(part.name for part in barrier))
        own = list(_parts_below(table.nodes, above, {}))
        ends[table.name] = tuple(part.name for part in own) or above
        yield from (*barrier, *own)


def _parts_below(nodes: Sequence[Exec], above: tuple[str, ...], ends: dict[str, tuple[str, ...]]) -> Iterator[_Part]:
    """Yield the parts of the problem that one scope of the plan comes to.

    `above`: what a loop waits for, its first steps wait for. `ends`: by node, the parts that it consists of.
    """
    for node in nodes:
        parents = tuple(dict.fromkeys(part for name in node.before for part in ends[name])) or above
        match node:
            case CallExec():
                own = [_Part(node.name, node, parents)]
            case FilterExec() | ValueExec():
                own = [_Part(node.name, None, parents)]
            case LoopExec():
                own = list(_parts_below(node.body, parents, {}))
        ends[node.name] = tuple(part.name for part in own)
        yield from own


def _placed(
    plan: PhysicalPlan,
    problem: PlacementProblem,
    found: PlacementSolution,
    replicas: Sequence[PoolReplicas],
    figures: PlacementFigures,
) -> Placement:
    """Return the placement that a solution is, with no order of steps."""
    timeline, windows, steps = found.timeline, AllWindows(problem), assigned_steps(Indexed(problem), found)
    value = windows.value(steps)
    epochs = {span.node: span.epoch for span in timeline.spans}
    pools = {node.name: node.model for node in problem.llm_nodes}
    workers = {name for one in replicas if one.group for name in one.names}
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
        if replica.name in workers
    )
    return Placement(
        plan.objective,
        found.solver,
        orders,
        windows.makespan_s(steps),
        value,
        min(value, _lower_bound(plan, problem, found, replicas, figures)),
        figures.basis,
        tuple(_needs(problem, {span.node: span.start_s for span in timeline.spans}, timeline.makespan_s).items()),
        (),
        problem.num_windows,
    )


def _lower_bound(
    plan: PhysicalPlan,
    problem: PlacementProblem,
    found: PlacementSolution,
    replicas: Sequence[PoolReplicas],
    figures: PlacementFigures,
) -> float:
    """Return what no placement is below: in many windows none is better than with all rows in flight."""
    if problem.num_windows <= 1:
        return found.lower_bound
    at_once = replace(plan, max_rows_in_flight=ceil(figures.num_rows))
    whole = replace(placement_problem(at_once, replicas, figures, {}), replicas=problem.replicas)
    root = Schedule(Indexed(whole))
    return Bound(root)(root)


def _places(problem: PlacementProblem, found: PlacementSolution) -> tuple[tuple[str, int], ...]:
    """Return the place of each LLM node among those of its model, in the order in which they begin. A node has the
    place of the one before it where both run at once and share no replica."""
    models = {node.name: node.model for node in problem.llm_nodes}
    replicas = {one.node: frozenset(one.replicas) for one in found.sequence}
    last: dict[str, list[NodeSpan]] = {}
    places: dict[str, int] = {}
    for span in sorted((one for one in found.timeline.spans if one.node in models), key=lambda one: one.start_s):
        beside = last.setdefault(models[span.node], [])
        if any(span.start_s >= one.end_s or replicas[span.node] & replicas[one.node] for one in beside):
            place, beside[:] = places[beside[0].node] + 1, []
        else:
            place = places[beside[0].node] if beside else 0
        beside.append(span)
        places[span.node] = place
    return tuple(places.items())


def _needs(problem: PlacementProblem, starts_s: Mapping[str, float], makespan_s: float) -> dict[str, float]:
    """Return when the results of each tool are needed: by the first LLM node that reads them, by way of other tools
    too."""
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
