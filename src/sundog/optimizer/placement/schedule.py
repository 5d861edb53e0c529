"""The meaning of a placement: a schedule built by appending one node after another.

Owns the single definition of time, model loads, KV reuse and cost. Never chooses what to append.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sundog.optimizer.placement.indexed import Indexed, whole_calls
from sundog.optimizer.placement.objective import Objective

IndexedAssignment = tuple[int, tuple[int, ...]]  # an LLM node and the replicas that share it


class Schedule:
    """A partial schedule, to which `append` adds LLM nodes; tools are placed by themselves as soon as their parents
    are. The rules are written in `simulate`.

    `heads_s[n]`: when the first rows of n have come, `fed_s[n]`: when the last ones have, of n's parents so far.
    `free_s`, `open_s`, `resident`, `last` and `last_width` are by replica: when its last rows are through, when it has
    work for no more than the rows that come later, its models (longest unused first), the node it ran last (-1 for
    none) and over how many replicas that one was split. `pools_s`: when each pool that tools share has room for more.
    """

    __slots__ = (
        "done", "end_s", "fed_s", "free_s", "heads_s", "ix", "last", "last_width", "open_s", "pools_s", "resident",
        "sink_sum_s", "sum_s",
    )  # fmt: skip

    def __init__(self, ix: Indexed) -> None:
        self.ix = ix
        self.done = 0
        self.end_s = 0.0
        self.sum_s = 0.0
        self.sink_sum_s = 0.0
        self.free_s = [0.0] * ix.num_replicas
        self.open_s = [0.0] * ix.num_replicas
        self.resident = list(ix.resident)
        self.last = [-1] * ix.num_replicas
        self.last_width = [1] * ix.num_replicas
        self.heads_s = [0.0] * ix.num_nodes
        self.fed_s = [0.0] * ix.num_nodes
        self.pools_s = [0.0] * ix.num_pools
        self._place_tools(ix.first_tools)

    def copy(self) -> Schedule:
        """Return a schedule of the same problem that can be extended without changing this one."""
        new = type(self).__new__(type(self))
        new.ix = self.ix
        new.done = self.done
        new.end_s = self.end_s
        new.sum_s = self.sum_s
        new.sink_sum_s = self.sink_sum_s
        new.free_s = self.free_s[:]
        new.open_s = self.open_s[:]
        new.resident = self.resident[:]
        new.last = self.last[:]
        new.last_width = self.last_width[:]
        new.heads_s = self.heads_s[:]
        new.fed_s = self.fed_s[:]
        new.pools_s = self.pools_s[:]
        return new

    def is_ready(self, node: int) -> bool:
        return not self.done >> node & 1 and not self.ix.parents_mask[node] & ~self.done

    def load_s(self, model: int, replica: int) -> float:
        """Return the seconds until `replica` has `model` resident."""
        resident = self.resident[replica]
        if model in resident:
            return 0.0
        full = len(resident) >= self.ix.max_resident[replica]
        return self.ix.switch_s[model] if full else self.ix.load_s[model]

    def begin_s(self, model: int, replica: int) -> float:
        """Return when `replica` can have `model` and room for its calls."""
        if model in self.resident[replica]:
            return self.open_s[replica]
        return self.free_s[replica] + self.load_s(model, replica)

    def work_s(self, node: int, replica: int, width: int) -> float:
        """Return the seconds of one of `width` equal parts of an LLM node if it were appended here and never waited for
        rows."""
        ix = self.ix
        exec_s = ix.exec_s[node] / width
        if self.last[replica] in ix.warm_parents[node]:
            exec_s *= 1 - ix.saved_share[node] * min(1.0, width / self.last_width[replica])
        return exec_s

    def shard(self, node: int, replica: int, width: int) -> tuple[float, float, float, float]:
        """Start and end of such a part, when its first rows are through, and when its work would be done if it never
        waited for rows."""
        ix = self.ix
        start_s = self.begin_s(ix.model[node], replica)
        head_s = self.heads_s[node]
        if start_s < head_s:
            start_s = head_s
        work_s = ix.exec_s[node] / width
        span_s = ix.spans_s[node][width - 1]
        if ix.warm_parents[node]:
            work_s = self.work_s(node, replica, width)
            span_s = whole_calls(work_s, ix.call_s[node])
        done_s = start_s + work_s
        if not ix.rows_flow:
            return start_s, done_s, done_s, done_s
        wave_s = ix.wave_s[node]
        if wave_s > span_s:
            wave_s = span_s
        end_s, fed_end_s = start_s + span_s, self.fed_s[node] + wave_s
        return start_s, fed_end_s if fed_end_s > end_s else end_s, start_s + wave_s, done_s

    def append(self, node: int, replicas: Sequence[int]) -> float:
        """Append an LLM node whose parents are placed, and return its end."""
        width = len(replicas)
        model = self.ix.model[node]
        end_s = first_s = 0.0
        for replica in replicas:
            _, shard_end_s, shard_first_s, self.open_s[replica] = self.shard(node, replica, width)
            end_s = max(end_s, shard_end_s)
            first_s = max(first_s, shard_first_s)
            if shard_end_s > self.free_s[replica]:
                self.free_s[replica] = shard_end_s
            self._use(model, replica)
            self.last[replica] = node
            self.last_width[replica] = width
        self._end(node, end_s, first_s)
        if self.ix.tools_below[node]:
            self._place_tools(self.ix.tools_below[node])
        return end_s

    def play(self, steps: Iterable[IndexedAssignment]) -> Schedule:
        for node, replicas in steps:
            self.append(node, replicas)
        return self

    def value(self) -> float:
        """Return the objective of what is placed."""
        match self.ix.objective:
            case Objective.MAKESPAN:
                return self.end_s
            case Objective.MEAN_COMPLETION:
                return self.sink_sum_s / max(1, len(self.ix.sinks))
            case Objective.COST:
                return sum(price * self.free_s[replica] for replica, price in enumerate(self.ix.usd_per_s))

    def _use(self, model: int, replica: int) -> None:
        resident = self.resident[replica]
        if resident and resident[-1] == model:
            return
        others = tuple(other for other in resident if other != model)
        if len(others) == self.ix.max_resident[replica]:
            others = others[1:]
        self.resident[replica] = (*others, model)

    def _place_tools(self, candidates: Iterable[int]) -> None:
        """Place those whose parents are placed; `candidates` stand in the order in which a pool takes them."""
        for tool in candidates:
            if not self.ix.parents_mask[tool] & ~self.done:
                self._place_tool(tool)

    def _place_tool(self, tool: int) -> tuple[float, float]:
        """Place a tool and return its start and end."""
        ix = self.ix
        start_s, work_s, pool = self.heads_s[tool], ix.exec_s[tool], ix.pool[tool]
        if ix.is_barrier[tool]:
            start_s = self.fed_s[tool]
        if pool >= 0:
            if start_s < self.pools_s[pool]:
                start_s = self.pools_s[pool]
            self.pools_s[pool] = start_s + work_s
        wave_s = ix.least_wave_s[tool]
        end_s = max(start_s + ix.least_s[tool], self.fed_s[tool] + wave_s)
        self._end(tool, end_s, start_s + wave_s)
        return start_s, end_s

    def _end(self, node: int, end_s: float, first_s: float) -> None:
        self.done |= 1 << node
        self.sum_s += end_s
        if end_s > self.end_s:
            self.end_s = end_s
        children = self.ix.children[node]
        if not children:
            self.sink_sum_s += end_s
        for child in children:
            if self.heads_s[child] < first_s:
                self.heads_s[child] = first_s
            if self.fed_s[child] < end_s:
                self.fed_s[child] = end_s
