"""This module says which steps have drained: every row has passed them, or ended, so that no call of theirs will come;
of more rows than are in flight at once, every row of a window.

Owns the count of rows left before each node. Never decides what follows from it; the core does.
"""

from __future__ import annotations

from collections.abc import Callable

from sundog.ir.physical import Exec, calls_of


class Drains:
    """This class counts for each node the rows that have not passed it. `num_rows`: that have not ended yet. `window`:
    how many of them are in flight at once. `on_drained` hears of each step, a loop's steps with the loop: whenever a
    window of rows has passed it, True where others come, and once all have."""

    def __init__(
        self, nodes: tuple[Exec, ...], num_rows: int, window: int, on_drained: Callable[[str, bool], None]
    ) -> None:
        self._steps = {node.name: [call.name for call in calls_of((node,))] for node in nodes}
        self._num_left = dict.fromkeys(self._steps, num_rows)
        self._num_rows = num_rows
        self._window = window
        self._on_drained = on_drained

    def passed(self, node: str) -> None:
        """Count one more row that has passed a node of the plan, or will not come to it."""
        self._num_left[node] -= 1
        num_left = self._num_left[node]
        if num_left == 0 or (self._num_rows - num_left) % self._window == 0:
            for step in self._steps[node]:
                self._on_drained(step, num_left > 0)

    def left(self, node: str) -> float:
        """Return the share of the rows that have not passed a node."""
        return self._num_left[node] / self._num_rows if self._num_rows else 0.0

    def shares_left(self) -> dict[str, float]:
        """Return `left`, by step."""
        return {step: self.left(node) for node, steps in self._steps.items() for step in steps}
