"""The cost that Halo's planner takes an epoch to have (arXiv 2509.02121, version 2, section 4; the constants are those
of its code at github.com/mlsys-io/Halo_demo, commit 2df8132).

Owns these formulas, and the bound on what is left. They are a planner's, no clock's: `simulate` says what a plan takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from sundog.optimizer.placement.indexed import Indexed

Lane = tuple[int, int, int]
"""A worker as the planner sees it: the first one that serves the same models, its model, and the node that it ran last;
-1 for none."""


@dataclass(frozen=True, slots=True)
class HaloConstants:
    """The published values.

    `longest_weight` and `sum_weight`: of an epoch's longest worker, and of the sum of its workers.
    """

    longest_weight: float = 0.9
    sum_weight: float = 0.1
    #: The share of a load that counts where the worker had no model.
    first_load_share: float = 0.5
    #: A node's time right after a parent of it.
    reuse_factor: float = 0.9
    #: The weight of the tools' seconds, and `early_tool_weight` how much more in the first epoch.
    tool_weight: float = 1.0
    early_tool_weight: float = 2.0
    #: The price of each epoch, growing by `epoch_growth` of it with each.
    epoch_s: float = 1.0
    epoch_growth: float = 0.1
    #: For each step down a chain inside of one epoch.
    depth_s: float = 1.0
    #: An epoch has at most so many nodes less than there are workers.
    batch_slack: int = 1


class HaloCosts:
    """The costs of one problem's epochs. Done sets are masks of LLM nodes; the tools that they need count as done.

    Where Halo has figures of its own, these are the problem's: a node's `exec_s`, a model's `load_s`, and of a tool the
    length of one call, as Halo takes a query's estimated cost or a request's mean latency. No query has several plans,
    and none shares pages with another.
    """

    def __init__(self, ix: Indexed, constants: HaloConstants) -> None:
        self._ix = ix
        self._constants = constants
        self._call_s = list(map(min, ix.exec_s, ix.wave_s))
        self._llm_mask = (1 << ix.num_llm) - 1
        self._bounds: dict[int, tuple[int, float]] = {}

    def epoch_s(self, epoch: int, tools: int, batch: Sequence[int], lanes: Sequence[Lane]) -> float:
        """Return the cost of the epoch in which each node of `batch` runs on its lane. `tools`: the mask of those that
        it needs and that no epoch before has run."""
        own = self._constants
        spent_s = [self._node_s(node, lane) for node, lane in zip(batch, lanes, strict=True)]
        tool_weight = own.tool_weight * (1 + own.early_tool_weight / (1 + epoch))
        return (
            self._penalty_s(epoch)
            + own.longest_weight * max(spent_s)
            + own.sum_weight * sum(spent_s)
            + tool_weight * sum(self._call_s[tool] for tool in _members(tools))
            + own.depth_s * sum(self._depths(batch))
        )

    def bound_s(self, done: int, epoch: int) -> float:
        """Return Halo's bound on the epochs from `epoch` on. It knows neither the reuse of a parent's KV cache nor
        chains inside of an epoch, so that it may be above the least cost: as published, the search can miss the best
        plan."""
        if done not in self._bounds:
            self._bounds[done] = self._least_epochs_and_work_s(done)
        num_epochs, work_s = self._bounds[done]
        return work_s + sum(self._penalty_s(epoch + later) for later in range(num_epochs))

    def _least_epochs_and_work_s(self, done: int) -> tuple[int, float]:
        left = _members(self._llm_mask & ~done)
        if not left:
            return 0, 0.0
        own, num_workers = self._constants, max(1, self._ix.num_replicas)
        load_s = sum(self._ix.exec_s[node] for node in left)
        path_s = (1 + max(self._depths(left))) * min(self._ix.exec_s[node] for node in left)
        spread_s = own.longest_weight * load_s / num_workers + own.sum_weight * load_s
        return ceil(len(left) / num_workers), max(spread_s, own.longest_weight * path_s)

    def _node_s(self, node: int, lane: Lane) -> float:
        _, resident, last = lane
        factor = self._constants.reuse_factor if last in self._ix.parents[node] else 1.0
        return self._ix.exec_s[node] * factor + self._load_s(self._ix.model[node], resident)

    def _load_s(self, model: int, resident: int) -> float:
        if model == resident:
            return 0.0
        return self._ix.load_s[model] * (self._constants.first_load_share if resident < 0 else 1.0)

    def _penalty_s(self, epoch: int) -> float:
        return self._constants.epoch_s * (1 + self._constants.epoch_growth * epoch)

    def _depths(self, nodes: Sequence[int]) -> list[int]:
        """Return, for each of `nodes`, how many of them the longest chain of direct parents above it has."""
        depths: dict[int, int] = {}
        chosen = set(nodes)
        for node in self._ix.order:
            if node in chosen:
                above = [depths[parent] for parent in self._ix.parents[node] if parent in chosen]
                depths[node] = 1 + max(above, default=-1)
        return list(depths.values())


def _members(mask: int) -> list[int]:
    """Return the bits that are set, ascending."""
    found = []
    while mask:
        least = mask & -mask
        found.append(least.bit_length() - 1)
        mask ^= least
    return found
