"""A placement problem in integers and bitmasks, for the solvers' inner loops.

Owns the numbering: LLM nodes first, then tools, each as written. Never decides anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from graphlib import TopologicalSorter
from itertools import combinations
from math import ceil, inf

from sundog.optimizer.placement.problem import PlacementProblem

ROUNDING = 1e-6


def whole_calls(work_s: float, call_s: float) -> float:
    """Return the seconds of a part of `work_s` from its first call's start to its last one's end: the last calls take
    as long as the first, however few they are."""
    if not call_s:
        return work_s
    num_calls = ceil(work_s / call_s - ROUNDING)
    return max(work_s, call_s * max(1, num_calls))


class Indexed:
    """Read-only once built. Masks have bit n for node n; lists are indexed by node, model or replica.

    `warm_parents[n]`: parents whose KV cache n can reuse. `max_width[n]`: over how many replicas n may be split.
    `twins[r]`: equal for replicas that differ in name alone. `least_s[n]`: no schedule runs n in less, nor its first
    rows in less than `least_wave_s[n]`. `tail_s[n]`: no schedule ends less than this after n starts; `after_s[n]`:
    after n ends. `rows_flow`: some node lets rows go on before its batch has ended, or takes longer than its work.
    `spans_s[n][k]` and `least_spans_s[n][k]`: how long one of k + 1 equal parts of an LLM node takes, with nothing
    and with all saved that its parents' KV cache can save. `pool[n]`: the pool that a
    tool shares with others, -1 for none. `tools_below[n]`: the tools that may be ready when LLM node n is placed, and
    `first_tools` those that are from the start, each in the order in which a pool takes them: the longest tail first.
    `is_barrier[n]`: what waits for n waits for all rows. `size`: what the time for one state grows with.
    """

    def __init__(self, problem: PlacementProblem) -> None:
        nodes = problem.nodes
        self.problem = problem
        self.objective = problem.objective
        self.names = [node.name for node in nodes]
        self.index = {name: number for number, name in enumerate(self.names)}
        self.num_llm = len(problem.llm_nodes)
        self.num_nodes = len(nodes)
        self.num_replicas = len(problem.replicas)
        self.size = self.num_nodes + self.num_replicas
        self.exec_s = [node.exec_s for node in nodes]
        self.wave_s = [node.wave_s for node in nodes]
        self.call_s = [node.call_s for node in nodes]
        self.is_barrier = [False] * self.num_llm + [tool.is_barrier for tool in problem.tool_nodes]
        self.rows_flow = any(wave_s < inf for wave_s in self.wave_s) or any(self.call_s)
        self._index_graph([node.parents for node in nodes])
        self._index_models(problem)
        self._index_least()
        self._index_tools(problem)

    def _index_graph(self, parents: Sequence[tuple[str, ...]]) -> None:
        self.parents = [tuple(sorted({self.index[name] for name in names})) for names in parents]
        self.parents_mask = [sum(1 << parent for parent in before) for before in self.parents]
        children: list[list[int]] = [[] for _ in self.parents]
        for child, before in enumerate(self.parents):
            for parent in before:
                children[parent].append(child)
        self.children = list(map(tuple, children))
        self.all_mask = (1 << self.num_nodes) - 1
        self.order = list(TopologicalSorter({n: self.parents[n] for n in range(self.num_nodes)}).static_order())
        self.ancestors_mask = self.parents_mask[:]
        for node in self.order:
            for parent in self.parents[node]:
                self.ancestors_mask[node] |= self.ancestors_mask[parent]
        self.sinks = [node for node in range(self.num_nodes) if not self.children[node]]

    def _index_models(self, problem: PlacementProblem) -> None:
        number = {model.name: index for index, model in enumerate(problem.models)}
        self.load_s = [model.load_s for model in problem.models]
        self.switch_s = [model.switch_s for model in problem.models]
        self.model = [number[node.model] for node in problem.llm_nodes]
        self.saved_share = [node.kv_saved_share for node in problem.llm_nodes]
        self.serves = [frozenset(number[name] for name in replica.models) for replica in problem.replicas]
        self.resident = [tuple(number[name] for name in replica.resident) for replica in problem.replicas]
        self.max_resident = [replica.max_resident for replica in problem.replicas]
        self.usd_per_s = [replica.usd_per_s for replica in problem.replicas]
        kinds = list(zip(self.serves, self.max_resident, self.usd_per_s, strict=True))
        self.twins = [kinds.index(kind) for kind in kinds]
        everywhere = range(self.num_replicas)
        self.replicas_of = [tuple(r for r in everywhere if model in self.serves[r]) for model in self.model]
        self.max_width = [
            min(node.max_replicas, len(able)) for node, able in zip(problem.llm_nodes, self.replicas_of, strict=True)
        ]

    def _index_least(self) -> None:
        self.warm_parents = [
            frozenset(p for p in self.parents[n] if p < self.num_llm and self.model[p] == self.model[n])
            if self.saved_share[n] > 0
            else frozenset()
            for n in range(self.num_llm)
        ]
        self.warm_children_mask = [
            sum(1 << child for child in range(self.num_llm) if node in self.warm_parents[child])
            for node in range(self.num_llm)
        ]
        self.least_work_s = [
            self.exec_s[n] * (1 - self.saved_share[n] if self.warm_parents[n] else 1) for n in range(self.num_llm)
        ]
        self.spans_s = [self._spans_s(node, self.exec_s[node]) for node in range(self.num_llm)]
        self.least_spans_s = [self._spans_s(node, self.least_work_s[node]) for node in range(self.num_llm)]
        tools = range(self.num_llm, self.num_nodes)
        self.least_s = [spans_s[-1] for spans_s in self.least_spans_s]
        self.least_s += [whole_calls(self.exec_s[tool], self.call_s[tool]) for tool in tools]
        self.least_wave_s = list(map(min, self.wave_s, self.least_s))
        self.tail_s = [0.0] * self.num_nodes
        self.after_s = [0.0] * self.num_nodes
        for node in reversed(self.order):
            below = self.children[node]
            self.after_s[node] = max((self.least_wave_s[child] + self.after_s[child] for child in below), default=0.0)
            after_wave_s = max((self.tail_s[child] for child in below), default=0.0)
            self.tail_s[node] = max(self.least_s[node] + self.after_s[node], self.least_wave_s[node] + after_wave_s)

    def _spans_s(self, node: int, work_s: float) -> list[float]:
        return [whole_calls(work_s / width, self.call_s[node]) for width in range(1, self.max_width[node] + 1)]

    def _index_tools(self, problem: PlacementProblem) -> None:
        users = Counter(tool.pool for tool in problem.tool_nodes if tool.pool is not None)
        shared = [pool for pool, num_tools in users.items() if num_tools > 1]
        pools = [shared.index(tool.pool) if tool.pool in shared else -1 for tool in problem.tool_nodes]
        self.num_pools = len(shared)
        self.pool = [-1] * self.num_llm + pools
        tools = sorted(
            (node for node in self.order if node >= self.num_llm), key=lambda node: -self.tail_s[node]
        )  # among equals in topological order
        llm_mask = (1 << self.num_llm) - 1
        self.first_tools = tuple(tool for tool in tools if not self.ancestors_mask[tool] & llm_mask)
        # By way of tools alone; the others wait for a later LLM node.
        above = self.parents_mask[:]
        below: list[list[int]] = [[] for _ in range(self.num_llm)]
        for tool in tools:
            for parent in self.parents[tool]:
                above[tool] |= above[parent] if parent >= self.num_llm else 0
            for node in range(self.num_llm):
                if above[tool] >> node & 1:
                    below[node].append(tool)
        self.tools_below = list(map(tuple, below))

    def subsets_of(self, node: int) -> list[tuple[int, ...]]:
        """Return every set of replicas that an LLM node may take."""
        widths = range(1, self.max_width[node] + 1)
        return [subset for width in widths for subset in combinations(self.replicas_of[node], width)]
