"""This module says which steps have drained: every row of the run has passed them, or ended, so that no call of theirs
will come.

Owns the count of rows left before each node. Never decides what follows from it; the core does.
"""

from __future__ import annotations

from collections.abc import Callable

from sundog.ir.physical import Exec, calls_of


class Drains:
    """This class counts for each node the rows that have not passed it. `num_rows`: that have not ended yet.
    `on_drained` hears of each step once, a loop's steps with the loop."""

    def __init__(self, nodes: tuple[Exec, ...], num_rows: int, on_drained: Callable[[str], None]) -> None:
        self._steps = {node.name: [call.name for call in calls_of((node,))] for node in nodes}
        self._num_left = dict.fromkeys(self._steps, num_rows)
        self._num_rows = num_rows
        self._on_drained = on_drained

    def passed(self, node: str) -> None:
        """Count one more row that has passed a node of the plan, or will not come to it."""
        self._num_left[node] -= 1
        if self._num_left[node] == 0:
            for step in self._steps[node]:
                self._on_drained(step)

    def left(self, node: str) -> float:
        """Return the share of the rows that have not passed a node."""
        return self._num_left[node] / self._num_rows if self._num_rows else 0.0

    def shares_left(self) -> dict[str, float]:
        """Return `left`, by step."""
        return {step: self.left(node) for node, steps in self._steps.items() for step in steps}
