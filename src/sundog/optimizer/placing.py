"""Steps on workers: from a physical plan and its figures to a placement problem, and from the solver's answer back.

Owns both translations. Never searches; that is `placement`. Never estimates; the figures are handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from statistics import fmean, median

from sundog.cost.estimate import Estimate
from sundog.cost.plan_estimate import PlanEstimate
from sundog.errors import ConfigError
from sundog.ir.logical import WorkerGroup
from sundog.ir.physical import CallExec, Exec, FilterExec, LoopExec, PhysicalPlan, PlannedStep, WorkerOrder
from sundog.ir.physical import Placement as Placed
from sundog.optimizer.placement.choose import objective_named, solver_named
from sundog.optimizer.placement.problem import LLMNode, Model, Objective, Placement, PlacementProblem, Replica, ToolNode

DEFAULT_LOAD_S = 10.0
"""Of an engine that was never loaded here."""
GUESSED_CALL_S = Estimate(0.01, 0.1, 1.0)
"""Of a call of an engine that is not calibrated: seconds of a replica for itself."""
GUESSED_TOOL_S = Estimate(0.001, 0.01, 0.1)
"""Of a call of a tool that was never measured, a function or a query or a web page: seconds of a place in its pool."""
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds of the batch. `exec_s`: by step, the whole batch on one replica, or by its tool; a step that is left out
    has nothing to do. `num_waves`: by step, its calls over those that run at once there. `load_s`: by engine pool.
    `basis`: where they come from, as a phrase for explain. `guessed`: the steps of which no time is known, so that only
    their proportions count."""

    exec_s: Mapping[str, Estimate]
    num_waves: Mapping[str, float]
    load_s: Mapping[str, float]
    basis: str
    guessed: frozenset[str] = frozenset()

    def left(self, shares: Mapping[str, float]) -> Figures:
        """The figures of what remains: `shares`, by step, of the batch."""
        left = {step: shares[step] for step in self.exec_s if shares[step]}
        return replace(
            self,
            exec_s={step: self.exec_s[step] * share for step, share in left.items()},
            num_waves={step: self.num_waves[step] * share for step, share in left.items()},
        )

    def corrected(self, exec_s: Mapping[str, float], load_s: Mapping[str, float]) -> Figures | None:
        """With what was measured since; None where that lies in the ranges (of loads: within a factor of two)."""
        is_off = any(seconds not in self.exec_s[step] for step, seconds in exec_s.items())
        is_load_off = any(seconds not in _about(self.load_s[pool]) for pool, seconds in load_s.items())
        if not is_off and not is_load_off:
            return None
        ratios = [
            seconds / self.exec_s[step].expected
            for step, seconds in exec_s.items()
            if step in self.guessed and self.exec_s[step].expected
        ]
        # What is still a guess is off as the other guesses were.
        scale = median(ratios) if ratios else 1.0
        found = {step: estimate * (scale if step in self.guessed else 1.0) for step, estimate in self.exec_s.items()}
        found |= {step: _about(seconds) for step, seconds in exec_s.items()}
        guessed = frozenset() if ratios else self.guessed
        return Figures(found, self.num_waves, {**self.load_s, **load_s}, "this run so far", guessed)


def _about(seconds: float) -> Estimate:
    return Estimate(seconds / 2, seconds, seconds * 2)


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


def figures_of(
    estimate: PlanEstimate, places: Sequence[Places], limits: Mapping[str, int], load_s: Mapping[str, float]
) -> Figures:
    """The estimate's figures. `limits`: by pool, how many calls a replica of it, or a tool, runs at once. Where a step
    was never measured, its calls are guessed, and that may be off by a factor of ten."""
    num_replicas = {place.pool: place.num_replicas for place in places}
    unknown = [node.node for node in estimate.nodes if node.seconds is None]
    exec_s = {
        node.node: node.calls.num_executed
        * (GUESSED_CALL_S if node.pool in num_replicas else GUESSED_TOOL_S * (1 / limits[node.pool]))
        if node.seconds is None
        else node.seconds * num_replicas.get(node.pool, 1)
        for node in estimate.nodes
    }
    num_waves = {node.node: node.calls.num_executed.expected / limits[node.pool] for node in estimate.nodes}
    if len(unknown) == len(estimate.nodes):
        basis = "call counts alone"
    else:
        basis = f"measured calls; for {', '.join(unknown)} call counts alone" if unknown else "measured calls"
    return Figures(exec_s, num_waves, load_s, basis, frozenset(unknown))


def place_steps(
    plan: PhysicalPlan,
    places: Sequence[Places],
    figures: Figures,
    residents: Mapping[str, tuple[str, ...]] | None = None,
) -> Placed | None:
    """The placement by the plan's objective and solver; None where no step runs on a worker. `places`: of every engine
    pool that a step uses. `residents`: the engine pools loaded already, by worker. ConfigError for the objective cost
    without a price."""
    if not any(place.group for place in places):
        return None
    problem = placement_problem(plan, places, figures, residents or {})
    found = solver_named(plan.solver)(problem)
    workers = {name for place in places if place.group for name in place.names}
    return _placed(plan, problem, found, figures.basis, workers)


def placement_problem(
    plan: PhysicalPlan, places: Sequence[Places], figures: Figures, residents: Mapping[str, tuple[str, ...]]
) -> PlacementProblem:
    """A node for each call of the plan that has something to do: a loop's steps once, in their order."""
    objective = objective_named(plan.objective)
    groups = {place.group for place in places if place.group is not None}
    if objective is Objective.COST and not any(group.usd_per_hour for group in groups):
        raise ConfigError("the objective cost needs prices", hint="write usd_per_hour in the groups of `workers`")
    by_pool = {place.pool: place for place in places}
    llm_nodes: list[LLMNode] = []
    tool_nodes: list[ToolNode] = []
    waves_s: dict[str, list[float]] = {pool: [] for pool in by_pool}
    parts = [part for part in _parts(plan.nodes) if part.call is None or part.name in figures.exec_s]
    left = {part.name for part in parts}
    for part in parts:
        exec_s = figures.exec_s[part.name].expected if part.call else 0.0
        wave_s = exec_s / max(1.0, figures.num_waves[part.name]) if part.call else 0.0
        parents = tuple(parent for parent in part.parents if parent in left)
        if part.call and part.call.pool in by_pool:
            width = by_pool[part.call.pool].num_replicas
            llm_nodes.append(LLMNode(part.name, part.call.pool, exec_s, parents, max_replicas=width, wave_s=wave_s))
            waves_s[part.call.pool].append(wave_s if wave_s < exec_s else 0.0)
        else:
            tool_nodes.append(ToolNode(part.name, exec_s, parents, wave_s))
    # Each tool has limits of its own, so that its time is known already; none waits for another one's worker.
    return PlacementProblem(
        tuple(llm_nodes),
        tuple(tool_nodes),
        tuple(_model(pool, figures.load_s[pool], waves_s[pool]) for pool in by_pool),
        tuple(_replicas(places, residents)),
        max(1, len(tool_nodes)),
        objective,
    )


def _model(pool: str, load_s: float, waves_s: Sequence[float]) -> Model:
    """While its last calls end, and while the first ones of the next engine come, half of a worker's places are empty:
    a turn costs a wave beside the load. Of a step that is one wave, its seconds have that already."""
    return Model(pool, load_s, load_s + (fmean(waves_s) if waves_s else 0.0))


def _replicas(places: Sequence[Places], residents: Mapping[str, tuple[str, ...]]) -> Iterator[Replica]:
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
                yield Replica(name, pools, residents.get(name, ()), first.group.max_resident, price)


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


def _placed(plan: PhysicalPlan, problem: PlacementProblem, found: Placement, basis: str, workers: Set[str]) -> Placed:
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
        if replica.name in workers
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
