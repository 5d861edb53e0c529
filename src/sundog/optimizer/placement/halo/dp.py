"""Halo's dynamic program over epochs, as published (arXiv 2509.02121, version 2, section 4): a baseline.

A state is the set of nodes that are done, the multiset of the workers' signatures (kind, model, last node) and the
number of the epoch. An epoch takes a set of pending LLM nodes that is closed under their dependencies, at most one for
each worker and at most `batch_slack` fewer than could run, on any workers that serve them; the tools that they need run
with them. Owns the search. What it makes small is in `costs`, and is no makespan; `simulate` says what it takes.

A node is never split over workers, and a worker holds one model: that is Halo's rule, and what the comparison is about.
Tools that no LLM node needs have no epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

from sundog.errors import ConfigError
from sundog.optimizer.placement.answer import solution_of
from sundog.optimizer.placement.halo.costs import HaloConstants, HaloCosts, Lane
from sundog.optimizer.placement.indexed import Indexed
from sundog.optimizer.placement.problem import PlacementProblem, PlacementSolution
from sundog.optimizer.placement.schedule import IndexedAssignment

MAX_LLM_NODES = 64
"""A state is asked for inside of another one, once for each epoch."""
MAX_CANDIDATES = 10_000_000
"""Sets of nodes, and ways to put them on workers, that are looked at: half a minute of processor time. All hundred
graphs of benchmarks/placed with up to twelve LLM steps end within it."""
PUBLISHED = HaloConstants()

Choice = tuple[tuple[int, int], ...]
"""An epoch: each node, and the position of its worker among the sorted signatures."""


def halo_dp(problem: PlacementProblem) -> PlacementSolution:
    """Return the answer of Halo's planner; ConfigError where its search does not end within bounds."""
    ix = Indexed(problem)
    return solution_of(ix, tuple(_steps(ix, halo_epochs(ix))), "halo_dp")


def halo_epochs(
    ix: Indexed, constants: HaloConstants = PUBLISHED, max_candidates: int = MAX_CANDIDATES
) -> list[list[tuple[int, int]]]:
    """Return the LLM nodes of each epoch, each with its replica; ConfigError where that takes more than
    `max_candidates`."""
    if ix.num_llm > MAX_LLM_NODES:
        raise _refusal(f"{ix.num_llm} LLM steps are more than {MAX_LLM_NODES}")
    return _Search(ix, constants, max_candidates).epochs()


class _Search:
    def __init__(self, ix: Indexed, constants: HaloConstants, max_candidates: int) -> None:
        self._ix = ix
        self._slack = constants.batch_slack
        self._costs = HaloCosts(ix, constants)
        self._num_left = self._max_candidates = max_candidates
        self._llm_mask = (1 << ix.num_llm) - 1
        self._order = [node for node in ix.order if node < ix.num_llm]
        self._memo: dict[tuple[int, tuple[Lane, ...], int], tuple[float, Choice]] = {}

    def epochs(self) -> list[list[tuple[int, int]]]:
        """Follow the best choices from the first state."""
        ix, done = self._ix, 0
        residents = [resident[-1] if resident else -1 for resident in ix.resident]
        kinds = [ix.serves.index(served) for served in ix.serves]
        lanes = [(kind, resident, -1) for kind, resident in zip(kinds, residents, strict=True)]
        found: list[list[tuple[int, int]]] = []
        self._cost(done, tuple(sorted(lanes)), 0)
        while done != self._llm_mask:
            places = sorted(range(len(lanes)), key=lambda place: lanes[place])
            _, choice = self._memo[done, tuple(sorted(lanes)), len(found)]
            found.append([(node, places[position]) for node, position in choice])
            for node, replica in found[-1]:
                lanes[replica] = self._after(lanes[replica], node)
                done |= 1 << node
        return found

    def _cost(self, done: int, lanes: tuple[Lane, ...], epoch: int) -> float:
        """Return the least cost from here on; the epoch that leads there is kept in the memo."""
        if done == self._llm_mask:
            return 0.0
        key = done, lanes, epoch
        if key not in self._memo:
            self._memo[key] = self._best(done, lanes, epoch)
        return self._memo[key][0]

    def _best(self, done: int, lanes: tuple[Lane, ...], epoch: int) -> tuple[float, Choice]:
        best_s, best = inf, Choice()
        tools_done = self._tools_before(done)
        for batch, positions in self._candidates(done, lanes):
            mask = sum(1 << node for node in batch)
            tools = self._tools_before(mask) & ~tools_done
            spent_s = self._costs.epoch_s(epoch, tools, batch, [lanes[position] for position in positions])
            if spent_s + self._costs.bound_s(done | mask, epoch + 1) >= best_s:
                continue
            after = list(lanes)
            for node, position in zip(batch, positions, strict=True):
                after[position] = self._after(lanes[position], node)
            total_s = spent_s + self._cost(done | mask, tuple(sorted(after)), epoch + 1)
            if total_s < best_s:
                best_s, best = total_s, tuple(zip(batch, positions, strict=True))
        return best_s, best

    def _candidates(self, done: int, lanes: tuple[Lane, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Yield every batch on every choice of workers; smaller batches only where the workers serve none of full
        size."""
        pending = [node for node in self._order if not done >> node & 1]
        most = min(len(lanes), len(pending))
        least = max(1, most - self._slack)
        while least:
            is_served = False
            for batch in self._batches(pending, done, least, most):
                for positions in self._maps(batch, lanes):
                    is_served = True
                    yield batch, positions
            if is_served:
                return
            least, most = least - 1, least - 1

    def _batches(self, pending: Sequence[int], done: int, least: int, most: int) -> Iterator[tuple[int, ...]]:
        """Yield sets of nodes whose ancestors are done or in them, in topological order."""
        self._count()
        if len(pending) < least:
            return
        if not pending or not most:
            yield ()
            return
        node, rest = pending[0], pending[1:]
        yield from self._batches(rest, done, least, most)
        if not self._ix.ancestors_mask[node] & self._llm_mask & ~done:
            for others in self._batches(rest, done | 1 << node, max(0, least - 1), most - 1):
                yield (node, *others)

    def _maps(self, batch: Sequence[int], lanes: tuple[Lane, ...], used: int = 0) -> Iterator[tuple[int, ...]]:
        """Yield the positions of different workers that serve the nodes; of equal workers the first that is left."""
        self._count()
        if not batch:
            yield ()
            return
        tried: set[Lane] = set()
        for position, lane in enumerate(lanes):
            if used >> position & 1 or lane in tried or self._ix.model[batch[0]] not in self._ix.serves[lane[0]]:
                continue
            tried.add(lane)
            for others in self._maps(batch[1:], lanes, used | 1 << position):
                yield (position, *others)

    def _after(self, lane: Lane, node: int) -> Lane:
        return lane[0], self._ix.model[node], node

    def _tools_before(self, mask: int) -> int:
        """Return the mask of the tools that LLM nodes need, by way of others too."""
        tools = 0
        for node in self._order:
            if mask >> node & 1:
                tools |= self._ix.ancestors_mask[node]
        return tools & ~self._llm_mask

    def _count(self) -> None:
        self._num_left -= 1
        if self._num_left < 0:
            raise _refusal(f"it has not ended after {self._max_candidates:,} candidates")


def _steps(ix: Indexed, epochs: Sequence[Sequence[tuple[int, int]]]) -> Iterator[IndexedAssignment]:
    """Yield the epochs one after another."""
    for epoch in epochs:
        for node, replica in sorted(epoch, key=lambda one: ix.order.index(one[0])):
            yield node, (replica,)


def _refusal(why: str) -> ConfigError:
    return ConfigError(
        f"Halo's dynamic program is given up: {why}",
        where="placement halo_dp",
        hint="it is for comparisons, of about a dozen LLM steps; take placement auto",
    )
