"""The admissible lower bound: no completion of a partial schedule has a smaller objective.

Owns the bound alone. It grants every KV saving that is still possible (Halo's own bound grants none and can prune the
optimum), the widest split, and the cheapest replica.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import inf

from sundog.optimizer.placement.objective import Objective
from sundog.optimizer.placement.schedule import Schedule


class Bound:
    """Call it with a schedule of the problem it was built for."""

    def __init__(self, root: Schedule) -> None:
        ix = self._ix = root.ix
        self._pending_order = ix.order
        nodes = sorted(range(ix.num_llm), key=lambda node: -ix.after_s[node])
        groups = sorted({frozenset(able) for able in ix.replicas_of} | {frozenset().union(*ix.replicas_of)}, key=sorted)
        self._groups = [
            (sorted(group), [node for node in nodes if group.issuperset(ix.replicas_of[node])]) for group in groups
        ]
        tools = sorted(range(ix.num_llm, ix.num_nodes), key=lambda node: -ix.after_s[node])
        self._tools = [[tool for tool in tools if ix.pool[tool] == pool] for pool in range(ix.num_pools)]
        self._is_one_sink = len(ix.sinks) == 1

    def __call__(self, schedule: Schedule) -> float:
        ends_s = self._least_ends(schedule)
        match self._ix.objective:
            case Objective.COST:
                return self._cost(schedule, ends_s)
            case Objective.MEAN_COMPLETION if not self._is_one_sink:
                return self._mean(schedule, ends_s)
            case _:
                return self._makespan(schedule, ends_s)

    def _least_ends(self, schedule: Schedule) -> dict[int, float]:
        """Return for each pending node an end that it cannot beat."""
        ix, done = self._ix, schedule.done
        begins_s: dict[int, list[float]] = {}
        firsts_s: dict[int, float] = {}
        ends_s: dict[int, float] = {}
        for node in self._pending_order:
            if done >> node & 1:
                continue
            head_s, fed_s = schedule.heads_s[node], schedule.fed_s[node]
            for parent in ix.parents[node]:
                if parent in ends_s:
                    if firsts_s[parent] > head_s:
                        head_s = firsts_s[parent]
                    if ends_s[parent] > fed_s:
                        fed_s = ends_s[parent]
            if node >= ix.num_llm:
                ends_s[node], firsts_s[node] = self._least_of_tool(schedule, node, head_s, fed_s)
                continue
            model = ix.model[node]
            if model not in begins_s:
                begins_s[model] = sorted(schedule.begin_s(model, r) for r in ix.replicas_of[node])
            ends_s[node], firsts_s[node] = self._least(schedule, node, head_s, fed_s, begins_s[model])
        return ends_s

    def _least_of_tool(self, schedule: Schedule, node: int, head_s: float, fed_s: float) -> tuple[float, float]:
        ix = self._ix
        pool = ix.pool[node]
        if pool >= 0 and schedule.pools_s[pool] > head_s:
            head_s = schedule.pools_s[pool]
        return max(head_s + ix.least_s[node], fed_s + ix.least_wave_s[node]), head_s + ix.least_wave_s[node]

    def _least(
        self, schedule: Schedule, node: int, head_s: float, fed_s: float, begins_s: Sequence[float]
    ) -> tuple[float, float]:
        """Return the end, and the end of the first wave. `begins_s`: when each replica could have the model,
        ascending."""
        ix = self._ix
        most_wave_s, spans_s = ix.wave_s[node], ix.spans_s[node]
        warm = ix.warm_parents[node]
        end_s = first_s = inf
        if warm and any(not schedule.done >> parent & 1 for parent in warm):
            spans_s = ix.least_spans_s[node]
        elif warm:
            for replica in ix.replicas_of[node]:
                if schedule.last[replica] in warm:
                    if ix.max_width[node] > 1:
                        spans_s = ix.least_spans_s[node]
                        break
                    _, warm_end_s, warm_first_s, _ = schedule.shard(node, replica, 1)
                    end_s, first_s = min(end_s, warm_end_s), min(first_s, warm_first_s)
        # Over fewer replicas than have the model before the rows come it takes longer and starts no earlier.
        for width in range(min(max(1, bisect_right(begins_s, head_s)), ix.max_width[node]), ix.max_width[node] + 1):
            start_s = begins_s[width - 1]
            if start_s < head_s:
                start_s = head_s
            part_s = spans_s[width - 1]
            wave_s = part_s if part_s < most_wave_s else most_wave_s
            part_end_s, fed_end_s, part_first_s = start_s + part_s, fed_s + wave_s, start_s + wave_s
            if part_end_s < fed_end_s:
                part_end_s = fed_end_s
            if part_end_s < end_s:
                end_s = part_end_s
            if part_first_s < first_s:
                first_s = part_first_s
        return end_s, first_s

    def _makespan(self, schedule: Schedule, ends_s: dict[int, float]) -> float:
        ix = self._ix
        bound_s = schedule.end_s
        after_s = ix.after_s
        for node, end_s in ends_s.items():
            if end_s + after_s[node] > bound_s:
                bound_s = end_s + after_s[node]
        for replicas, nodes in self._groups:
            pending = [node for node in nodes if node in ends_s]
            if pending:
                bound_s = self._area(schedule, replicas, pending, bound_s)
        for pool, tools in enumerate(self._tools):
            work_s = schedule.pools_s[pool]
            for tool in tools:
                if tool in ends_s:
                    work_s += ix.exec_s[tool]
                    if work_s + ix.after_s[tool] > bound_s:
                        bound_s = work_s + ix.after_s[tool]
        return bound_s

    def _area(self, schedule: Schedule, replicas: Sequence[int], pending: Sequence[int], bound_s: float) -> float:
        """Return `bound_s` or later: all work with at least a certain tail fits in before that tail begins. `pending`:
        longest tail first."""
        ix = self._ix
        open_s = sorted(schedule.open_s[replica] for replica in replicas)
        loads_s = self._missing_loads(schedule, replicas, pending)
        latest_s = _level(open_s, sum(ix.exec_s[node] for node in pending))
        saving = _Saving(schedule)
        work_s = 0.0
        for node in pending:
            work_s += ix.exec_s[node]
            saving.add(node)
            if latest_s + ix.after_s[node] > bound_s:
                bound_s = max(bound_s, _level(open_s, work_s - saving.most_s) + ix.after_s[node])
        return max(bound_s, _level(open_s, work_s - saving.most_s + loads_s))

    def _missing_loads(self, schedule: Schedule, replicas: Sequence[int], pending: Sequence[int]) -> float:
        """Return the seconds of the loads that some replica must still do: a model that is nowhere is loaded once at
        least."""
        ix = self._ix
        return sum(
            min(schedule.load_s(model, replica) for replica in replicas if model in ix.serves[replica])
            for model in {ix.model[node] for node in pending}
        )

    def _mean(self, schedule: Schedule, ends_s: dict[int, float]) -> float:
        """Return the bound of the mean. The k-th sink to end ends neither before the k-th least end nor before the k
        smallest works are done."""
        ix = self._ix
        sinks = [node for node in ix.sinks if node in ends_s]
        open_s = sorted(schedule.open_s)
        works_s = accumulate(sorted(ix.least_work_s[node] if node < ix.num_llm else 0.0 for node in sinks))
        least_s = sorted(ends_s[node] for node in sinks)
        done_s = [_level(open_s, work_s) if work_s > 0 else 0.0 for work_s in works_s]  # a tool waits for no replica
        total_s = sum(map(max, least_s, done_s))
        return (schedule.sink_sum_s + total_s) / max(1, len(ix.sinks))

    def _cost(self, schedule: Schedule, ends_s: dict[int, float]) -> float:
        """Work is paid where it is cheapest, unless it finds room in what is paid already; and the replica that ends a
        node is paid until then."""
        ix = self._ix
        pending = [node for node in ends_s if node < ix.num_llm]
        prices = {node: min(ix.usd_per_s[replica] for replica in ix.replicas_of[node]) for node in pending}
        saving = _Saving(schedule)
        work_usd = wait_usd = 0.0
        for node in pending:
            saving.add(node)
            work_usd += ix.exec_s[node] * prices[node]
            least_s = ends_s[node]
            wait_usd = max(
                wait_usd, min(ix.usd_per_s[r] * (least_s - schedule.free_s[r]) for r in ix.replicas_of[node])
            )
        loads_s = self._missing_loads(schedule, range(ix.num_replicas), pending)
        work_usd += loads_s * min(prices.values(), default=0.0) - saving.most_s * max(prices.values(), default=0.0)
        room_usd = sum(
            price * (free_s - open_s)
            for price, free_s, open_s in zip(ix.usd_per_s, schedule.free_s, schedule.open_s, strict=True)
        )
        return schedule.value() + max(work_usd - room_usd, wait_usd)


class _Saving:
    """The most that KV reuse can still save among the nodes added: each at most its own share, and what comes right
    after a parent, over all replicas, at most the largest share of one child."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._by_parent: dict[int, float] = {}
        self._by_node_s = 0.0

    def add(self, node: int) -> None:
        """Add what `node` may still save by following a parent on the same replica."""
        schedule = self._schedule
        ix = schedule.ix
        if not ix.warm_parents[node]:
            return
        most_s = ix.exec_s[node] - ix.least_work_s[node]
        is_open = False
        for parent in ix.warm_parents[node]:
            if not schedule.done >> parent & 1 or parent in schedule.last:
                is_open = True
                self._by_parent[parent] = max(self._by_parent.get(parent, 0.0), most_s)
        if is_open:
            self._by_node_s += most_s

    @property
    def most_s(self) -> float:
        return min(self._by_node_s, sum(self._by_parent.values()))


def _level(open_s: Sequence[float], work_s: float) -> float:
    """Return when `work_s` of work is done at the earliest by replicas with room from `open_s` (ascending) on."""
    level_s, total_s = inf, 0.0
    for count, start_s in enumerate(open_s, start=1):
        if start_s >= level_s:
            break
        total_s += start_s
        level_s = (total_s + work_s) / count
    return level_s
