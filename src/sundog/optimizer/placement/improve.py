"""Local improvement of complete step sequences: climb to a local optimum, shake, climb again.

Owns the neighbourhood, the shaking and the rule of acceptance (first improvement). Never makes a sequence worse. The
shaking follows a fixed stream of numbers: the same problem gives the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from sundog.optimizer.placement.answer import TOLERANCE, is_below, score
from sundog.optimizer.placement.objective import Objective
from sundog.optimizer.placement.schedule import IndexedAssignment, Schedule

NUM_SHAKEN = 3  # nodes moved at random before a climb
MIN_TRIED = 24  # places of a node, drawn where it has more
TRIED_BUDGET = 2_400  # such places times the nodes: the more nodes, the fewer places of each
MAX_SUBSETS_OF = 4  # of so many replicas every subset is tried, of more only the likely ones
SEED = 0


def improve(
    root: Schedule, starts: Sequence[tuple[IndexedAssignment, ...]], target: float, max_placements: int
) -> tuple[IndexedAssignment, ...]:
    """Return the best sequence found from `starts`; stops at the value `target`, or after placing `max_placements`
    nodes."""
    return improved_by(Climb(root, max_placements), starts, target) if root.ix.num_llm else ()


def improved_by(
    climb: Climb, starts: Sequence[tuple[IndexedAssignment, ...]], target: float
) -> tuple[IndexedAssignment, ...]:
    """Return the best sequence by the climb's score; some node is to be placed."""
    best, best_score = starts[0], climb.score_of(starts[0])
    stream = Random(SEED)
    num_climbs = 0
    while climb.placements_left > 0 and is_below(target, best_score[0]):
        start = starts[num_climbs] if num_climbs < len(starts) else climb.shaken(best, stream)
        num_climbs += 1
        found, found_score = climb.run(start)
        if found_score <= best_score:
            best, best_score = found, found_score
    return best


class Climb:
    """This class climbs from a sequence to better ones beside it. `placements_left` is shared by all climbs."""

    def __init__(self, root: Schedule, max_placements: int) -> None:
        self.placements_left = max_placements
        self._root = root
        self._stream = Random(SEED)
        self._max_tried = max(MIN_TRIED, TRIED_BUDGET // root.ix.num_llm)
        self._is_makespan = root.ix.objective is Objective.MAKESPAN

    def run(self, start: Sequence[IndexedAssignment]) -> tuple[tuple[IndexedAssignment, ...], tuple[float, float]]:
        """Return a local optimum at or above `start`, with its score."""
        self._steps = list(start)
        self._remember()
        nodes = [node for node, _ in start]
        unchanged = turn = 0
        while unchanged < len(nodes) and self.placements_left > 0:
            unchanged = 0 if self._better_place(nodes[turn % len(nodes)]) else unchanged + 1
            turn += 1
        return tuple(self._steps), self._score

    def score_of(self, steps: Sequence[IndexedAssignment]) -> tuple[float, float]:
        """Return the score of a complete sequence."""
        return score(self._root.copy().play(steps))

    def shaken(self, steps: Sequence[IndexedAssignment], stream: Random) -> tuple[IndexedAssignment, ...]:
        """Return `steps` with NUM_SHAKEN of them moved to another place and other replicas, as `stream` draws them."""
        ix = self._root.ix
        shaken = list(steps)
        for _ in range(NUM_SHAKEN):
            node, _ = shaken.pop(stream.randrange(len(shaken)))
            low, high = self._window(node, shaken)
            width = stream.randint(1, ix.max_width[node])
            replicas = tuple(sorted(stream.sample(ix.replicas_of[node], width)))
            shaken.insert(stream.randint(low, high), (node, replicas))
        return tuple(shaken)

    def _remember(self) -> None:
        """Keep the schedule before each step, so that a neighbour is played from its first change on."""
        self._before = [self._root.copy()]
        for step in self._steps:
            schedule = self._before[-1].copy()
            schedule.append(*step)
            self._before.append(schedule)
        self.placements_left -= len(self._steps)
        self._score = score(self._before[-1])

    def _better_place(self, node: int) -> bool:
        for first, steps in self._neighbours(node):
            if self.placements_left <= 0:
                return False
            if self._is_better(first, steps):
                self._steps = steps
                self._remember()
                return True
        return False

    def _is_better(self, first: int, steps: list[IndexedAssignment]) -> bool:
        """Return whether a sequence is better; it is played until it is clear that it cannot be."""
        schedule = self._before[first].copy()
        ix = schedule.ix
        limit, limit_sum_s = self._score
        for node, replicas in steps[first:]:
            self.placements_left -= 1
            end_s = schedule.append(node, replicas)
            if self._is_makespan and is_below(limit, end_s + ix.after_s[node]):
                return False
        value, sum_s = score(schedule)
        return is_below(value, limit) or (not is_below(limit, value) and sum_s < limit_sum_s * (1 - TOLERANCE))

    def _neighbours(self, node: int) -> Iterator[tuple[int, list[IndexedAssignment]]]:
        """Yield sequences with `node` moved, and the first position at which each differs."""
        position = next(index for index, step in enumerate(self._steps) if step[0] == node)
        rest = self._steps[:position] + self._steps[position + 1 :]
        low, high = self._window(node, rest)
        sets = self._replica_sets(node)
        num_targets = high + 1 - low
        places: Sequence[int] = range(len(sets) * num_targets)
        if len(sets) * num_targets > self._max_tried:
            places = self._stream.sample(places, self._max_tried)
        for place in places:
            replicas, target = sets[place // num_targets], low + place % num_targets
            if target != position or replicas != self._steps[position][1]:
                yield min(target, position), [*rest[:target], (node, replicas), *rest[target:]]
        yield from self._exchanges(position)

    def _window(self, node: int, rest: Sequence[IndexedAssignment]) -> tuple[int, int]:
        """Return the first and last index in `rest` before which `node` may stand."""
        ancestors_mask = self._root.ix.ancestors_mask
        low = 0
        for index, (other, _) in enumerate(rest):
            if ancestors_mask[node] >> other & 1:
                low = index + 1
            elif ancestors_mask[other] >> node & 1:
                return low, index
        return low, len(rest)

    def _replica_sets(self, node: int) -> list[tuple[int, ...]]:
        """Return single replicas; where it may be split, also the sets of other nodes and what is free first in the
        end."""
        ix = self._root.ix
        able = ix.replicas_of[node]
        most = ix.max_width[node]
        if len(able) <= MAX_SUBSETS_OF:
            return ix.subsets_of(node)
        sets: set[tuple[int, ...]] = {(replica,) for replica in able}
        if most > 1:
            sets |= {replicas for _, replicas in self._steps if self._fits(node, replicas)}
            free_s = self._before[-1].free_s
            earliest = sorted(able, key=lambda replica: (free_s[replica], replica))
            sets |= {tuple(sorted(earliest[:width])) for width in range(2, most + 1)}
        return sorted(sets)

    def _exchanges(self, position: int) -> Iterator[tuple[int, list[IndexedAssignment]]]:
        """Yield the node at `position` and a later one on each other's replicas."""
        node, replicas = self._steps[position]
        others: Sequence[int] = range(position + 1, len(self._steps))
        if len(others) > self._max_tried:
            others = self._stream.sample(others, self._max_tried)
        for other in others:
            other_node, other_replicas = self._steps[other]
            if replicas != other_replicas and self._fits(node, other_replicas) and self._fits(other_node, replicas):
                steps = self._steps[:]
                steps[position], steps[other] = (node, other_replicas), (other_node, replicas)
                yield position, steps

    def _fits(self, node: int, replicas: tuple[int, ...]) -> bool:
        ix = self._root.ix
        return len(replicas) <= ix.max_width[node] and set(replicas) <= set(ix.replicas_of[node])
