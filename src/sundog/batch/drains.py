"""This module says which steps have drained: every row of their table has passed them, or ended, so that no call of
theirs will come; of more rows than are in flight at once, every row of a window.

Owns the count of rows left before each node. Never decides what follows from it; the core does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sundog.ir.physical import TableExec, calls_of


class Drains:
    """This class counts for each node the rows that have passed it. `window`: how many rows are in flight at once.
    `on_drained` hears of each step, a loop's steps with the loop: whenever a window of rows has passed it, True where
    others may come, and once all have, as soon as it is known how many there are (`begin`)."""

    def __init__(self, tables: Sequence[TableExec], window: int, on_drained: Callable[[str, bool], None]) -> None:
        self._steps = {node.name: [call.name for call in calls_of((node,))] for t in tables for node in t.nodes}
        self._nodes = {table.name: [node.name for node in table.nodes] for table in tables}
        self._num_passed = dict.fromkeys(self._steps, 0)
        #: By node, the rows of its table that had not ended before, where their number is known.
        self._num_rows: dict[str, int] = {}
        self._window = window
        self._on_drained = on_drained

    def begin(self, table: str, num_rows: int) -> None:
        """Take note of how many rows of a table had not ended before this process; some may have passed by now."""
        for node in self._nodes[table]:
            self._num_rows[node] = num_rows
            if self._num_passed[node] == num_rows:
                self._tell(node, comes_again=False)

    def passed(self, node: str) -> None:
        """Count one more row that has passed a node of the plan, or will not come to it."""
        self._num_passed[node] += 1
        num_passed = self._num_passed[node]
        is_last = num_passed == self._num_rows.get(node)
        if is_last or num_passed % self._window == 0:
            self._tell(node, comes_again=not is_last)

    def left(self, node: str) -> float:
        """Return the share of the rows that have not passed a node: all while their number is not known."""
        num_rows = self._num_rows.get(node)
        if num_rows is None:
            return 1.0
        return (num_rows - self._num_passed[node]) / num_rows if num_rows else 0.0

    def shares_left(self) -> dict[str, float]:
        """Return `left`, by step."""
        return {step: self.left(node) for node, steps in self._steps.items() for step in steps}

    def _tell(self, node: str, *, comes_again: bool) -> None:
        for step in self._steps[node]:
            self._on_drained(step, comes_again)
