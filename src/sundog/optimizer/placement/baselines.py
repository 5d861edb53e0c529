"""The baselines: what schedulers without a search do, behind the solvers' interface.

Owns their rules. They are what the search starts from and is compared with; none is chosen for a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sundog.optimizer.placement.answer import solution_of
from sundog.optimizer.placement.indexed import Indexed
from sundog.optimizer.placement.moves import ready_nodes
from sundog.optimizer.placement.problem import PlacementProblem, PlacementSolution
from sundog.optimizer.placement.schedule import IndexedAssignment, Schedule

Choose = Callable[[Schedule], IndexedAssignment]  # the next step of an incomplete schedule


def round_robin(problem: PlacementProblem) -> PlacementSolution:
    """Place nodes in topological order, each on the next replica in turn that serves it."""
    return _solve(problem, _round_robin_step, "round_robin")


def operator_wise(problem: PlacementProblem) -> PlacementSolution:
    """Place nodes in topological order, each split as widely as it may be."""
    return _solve(problem, _operator_wise_step, "operator_wise")


def min_switch(problem: PlacementProblem) -> PlacementSolution:
    """Place the step with the least loading first, among equals the one that ends first."""
    return _solve(problem, _min_switch_step, "min_switch")


def heft(problem: PlacementProblem) -> PlacementSolution:
    """Place the node with the longest tail first, where and as widely split as it ends first (Topcuoglu et al.,
    2002)."""
    return _solve(problem, _heft_step, "heft")


def partition(problem: PlacementProblem) -> PlacementSolution:
    """Let each replica keep one model, as many replicas for each as its work asks for, while rows flow through all."""
    return _solve(problem, _partition_step, "partition")


def all_steps_of_baselines(root: Schedule) -> list[tuple[IndexedAssignment, ...]]:
    """Return one complete step sequence for each baseline."""
    rules = (_round_robin_step, _operator_wise_step, _min_switch_step, _heft_step, _partition_step)
    return [_steps(root, rule) for rule in rules]


def earliest(schedule: Schedule, node: int, width: int) -> tuple[int, ...]:
    """Return the replicas that would end `width` shards of an LLM node first."""
    able = schedule.ix.replicas_of[node]
    return tuple(sorted(sorted(able, key=lambda replica: schedule.shard(node, replica, width)[1])[:width]))


def _solve(problem: PlacementProblem, choose: Choose, name: str) -> PlacementSolution:
    ix = Indexed(problem)
    return solution_of(ix, _steps(Schedule(ix), choose), name)


def _steps(root: Schedule, choose: Choose) -> tuple[IndexedAssignment, ...]:
    schedule = root.copy()
    steps: list[IndexedAssignment] = []
    while schedule.done != schedule.ix.all_mask:
        steps.append(choose(schedule))
        schedule.append(*steps[-1])
    return tuple(steps)


def _first(schedule: Schedule) -> int:
    return next(node for node in schedule.ix.order if node < schedule.ix.num_llm and schedule.is_ready(node))


def _round_robin_step(schedule: Schedule) -> IndexedAssignment:
    node = _first(schedule)
    able = schedule.ix.replicas_of[node]
    num_placed = sum(schedule.done >> other & 1 for other in range(schedule.ix.num_llm))
    return node, (able[num_placed % len(able)],)


def _operator_wise_step(schedule: Schedule) -> IndexedAssignment:
    node = _first(schedule)
    return node, earliest(schedule, node, schedule.ix.max_width[node])


def _min_switch_step(schedule: Schedule) -> IndexedAssignment:
    def loading_then_end(step: IndexedAssignment) -> tuple[float, float]:
        node, replicas = step
        return schedule.load_s(schedule.ix.model[node], replicas[0]), schedule.shard(node, replicas[0], 1)[1]

    return min(_single_steps(schedule), key=loading_then_end)


def _heft_step(schedule: Schedule) -> IndexedAssignment:
    node = _longest_tail(schedule)

    def end_s(replicas: tuple[int, ...]) -> float:
        return max(schedule.shard(node, replica, len(replicas))[1] for replica in replicas)

    widths = range(1, schedule.ix.max_width[node] + 1)
    return node, min((earliest(schedule, node, width) for width in widths), key=end_s)


def _partition_step(schedule: Schedule) -> IndexedAssignment:
    """Return what can start first, since a replica that waits for rows of one step could run those of another."""
    ix = schedule.ix
    owns = _partitioned(ix)

    def of(node: int) -> tuple[int, ...]:
        return (owns[ix.model[node]] or ix.replicas_of[node])[: ix.max_width[node]]

    def start_then_tail(node: int) -> tuple[float, float]:
        own = of(node)
        return max(schedule.shard(node, replica, len(own))[0] for replica in own), -ix.tail_s[node]

    node = min(ready_nodes(schedule), key=start_then_tail)
    return node, of(node)


def _partitioned(ix: Indexed) -> list[tuple[int, ...]]:
    """Return by model the replicas that are its own. The model with the most work for each that it has gets the next
    one: where it is loaded already, else one that serves little else."""
    left = set(range(ix.num_replicas))
    found: list[list[int]] = [[] for _ in ix.load_s]
    work_s = [0.0] * len(found)
    for node, model in enumerate(ix.model):
        work_s[model] += ix.exec_s[node]
    while wanting := [model for model in set(ix.model) if any(model in ix.serves[replica] for replica in left)]:
        model = max(wanting, key=lambda one: (not found[one], work_s[one] / max(1, len(found[one])), -one))
        able = [replica for replica in left if model in ix.serves[replica]]
        replica = min(able, key=lambda one: (model not in ix.resident[one], len(ix.serves[one]), one))
        left.remove(replica)
        found[model].append(replica)
    return [tuple(sorted(replicas)) for replicas in found]


def _longest_tail(schedule: Schedule) -> int:
    return max(ready_nodes(schedule), key=lambda ready: schedule.ix.tail_s[ready])


def _single_steps(schedule: Schedule) -> Iterator[IndexedAssignment]:
    for node in ready_nodes(schedule):
        yield from ((node, (replica,)) for replica in schedule.ix.replicas_of[node])
