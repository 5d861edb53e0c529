"""The evaluator: what a sequence of assignments comes to. Every solver's answer is judged by it.

Owns the check that a sequence is a valid placement, and the timeline. Never improves anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from sundog.errors import PlanError, suggest
from sundog.optimizer.placement.indexed import Indexed
from sundog.optimizer.placement.problem import Assignment, NodeSpan, PlacementProblem, Shard, Timeline
from sundog.optimizer.placement.schedule import Schedule


def simulate(problem: PlacementProblem, sequence: Sequence[Assignment]) -> Timeline:
    """Return the timeline of `sequence`; PlanError unless each node is in it once, after its parents, where it is
    served.

    The semantics, for all solvers, bounds and the oracle alike:

    - One global sequence, in which each replica runs its nodes.
    - Rows flow. A node starts when the first rows of all its parents are through, a wave (`wave_s`, at most the whole
      part) after they started on each replica. It ends no earlier than a wave after its last parent, and no part of it
      before a call (`call_s`) has had its time. A replica does not wait for either: as soon as it has had the time for
      all the work of a step, the next one of a resident model starts beside it.
    - An LLM node over k replicas is k equal shards. Each starts when its own replica is free and has the model;
      the node ends with its last shard. Nothing waits for another replica's shard but the children.
    - A replica loads a missing model as soon as all its steps have ended, also before rows come (preload): `load_s`
      into free room, else `switch_s`, and the model longest unused leaves.
    - A shard that comes right after a direct parent of the same model on its replica finds that parent's rows in the KV
      cache: all of its own rows, or k/j of them when the parent was split wider (j > k). On them it saves
      `kv_saved_share` of its time.
    - The tools of one pool share it as the steps of one model do a replica: each starts when the one before has had the
      time for its work. They come in the order in which the sequence completes what they read, among those that it
      completes at once the one with the longest tail first. Any other tool starts when its rows come.
    - The epoch of an LLM node is the least one that is above those of the nodes before it on its replicas and
      not below those of its parents; a tool has its parents' highest one. Epochs are stages, never barriers.
    """
    ix = Indexed(problem)
    schedule = _Watched(ix)
    epochs: dict[int, int] = {}
    lane_epochs = [-1] * ix.num_replicas
    spans: list[NodeSpan] = []
    shards: list[Shard] = []
    placed = 0
    for assignment in sequence:
        node, replicas = _checked(ix, assignment, placed)
        placed |= 1 << node
        epochs[node] = max(
            [0, *(epochs[parent] for parent in ix.parents[node]), *(lane_epochs[replica] + 1 for replica in replicas)]
        )
        for replica in replicas:
            lane_epochs[replica] = epochs[node]
        own = [_shard(schedule, node, replica, len(replicas)) for replica in replicas]
        shards += own
        start_s, end_s = _extent(own) if own else schedule.tools_s[node]
        if own:
            schedule.append(node, replicas)
        spans.append(NodeSpan(ix.names[node], start_s, end_s, epochs[node]))
    if placed != ix.all_mask:
        missing = [name for number, name in enumerate(ix.names) if not placed >> number & 1]
        raise PlanError(f"the placement leaves out {', '.join(missing)}", hint="each node stands in it once")
    return Timeline(problem.objective, schedule.value(), tuple(spans), tuple(shards))


class _Watched(Schedule):
    """A schedule that keeps the start and end of each tool."""

    __slots__ = ("tools_s",)

    def __init__(self, ix: Indexed) -> None:
        self.tools_s: dict[int, tuple[float, float]] = {}
        super().__init__(ix)

    def _place_tool(self, tool: int) -> tuple[float, float]:
        self.tools_s[tool] = super()._place_tool(tool)
        return self.tools_s[tool]


def _checked(ix: Indexed, assignment: Assignment, placed: int) -> tuple[int, tuple[int, ...]]:
    where = f"placement of {assignment.node}"
    if assignment.node not in ix.index:
        raise PlanError("no such node", where=where, hint=suggest(assignment.node, ix.names))
    node = ix.index[assignment.node]
    if placed >> node & 1 or ix.parents_mask[node] & ~placed:
        raise PlanError("placed twice or before a parent", where=where, hint="each node once, after its parents")
    number = {replica.name: index for index, replica in enumerate(ix.problem.replicas)}
    replicas = tuple(sorted(number.get(name, -1) for name in set(assignment.replicas)))
    allowed = ix.replicas_of[node] if node < ix.num_llm else ()
    most = ix.max_width[node] if node < ix.num_llm else 0
    if len(replicas) != len(assignment.replicas) or not set(replicas) <= set(allowed):
        raise PlanError(
            f"cannot run on {', '.join(assignment.replicas)}", where=where, hint="different ones that serve it"
        )
    if not min(1, most) <= len(replicas) <= most:
        raise PlanError(f"on {len(replicas)} replicas, at most {most}", where=where, hint="see max_replicas")
    return node, replicas


def _extent(shards: Sequence[Shard]) -> tuple[float, float]:
    return min(shard.start_s for shard in shards), max(shard.end_s for shard in shards)


def _shard(schedule: Schedule, node: int, replica: int, width: int) -> Shard:
    ix = schedule.ix
    start_s, end_s, _, _ = schedule.shard(node, replica, width)
    load_s = schedule.load_s(ix.model[node], replica)
    return Shard(
        node=ix.names[node],
        replica=ix.problem.replicas[replica].name,
        is_load=ix.model[node] not in schedule.resident[replica],
        load_start_s=schedule.begin_s(ix.model[node], replica) - load_s,
        load_s=load_s,
        start_s=start_s,
        end_s=end_s,
        kv_saved_s=ix.exec_s[node] / width - schedule.work_s(node, replica, width),
    )
