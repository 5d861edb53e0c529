"""The rows of one flow's inputs, as its user chose them.

Owns how often the inputs are opened, and the check that the columns are there. What rows are is runtime.rows' affair.
"""

from __future__ import annotations

from pathlib import Path

from sundog.flow.columns import check_columns
from sundog.ir.logical import LogicalPlan
from sundog.ir.schemas.shape import Record
from sundog.runtime.rows.row_choice import RowChoice
from sundog.runtime.tables.flow_inputs import FlowInputs


class FlowRows:
    """This class opens the inputs of `written`. It reads nothing before it is asked; its methods raise InputError."""

    def __init__(self, written: LogicalPlan, base_dir: Path, choice: RowChoice) -> None:
        self._written = written
        self._base_dir = base_dir
        self._choice = choice
        self._opened: FlowInputs | None = None
        self._checked: dict[str, Record] = {}

    def as_written(self) -> FlowInputs:
        """Return the inputs with every column that they have. All who ask share them until `close`, so that the files
        are gone through once for all of them; they know no snapshots."""
        if self._opened is None:
            self._opened = self.open(self._written, None)
        return self._opened

    def open(self, plan: LogicalPlan, snapshot_dir: Path | None) -> FlowInputs:
        """Return the inputs of `plan`, for the caller to close. `snapshot_dir`: as in `open_rows`."""
        inputs = FlowInputs(plan, self._base_dir.absolute(), snapshot_dir, self._choice)
        for table, rows in inputs.sources():
            # Files have the columns that they had. Those of a query are seen in its snapshots, and these differ.
            if isinstance(rows.shape, Record) and rows.shape != self._checked.get(table.name):
                check_columns(self._written.table(table.name), self._written.inputs, rows.shape)
                self._checked[table.name] = rows.shape
        return inputs

    def close(self) -> None:
        """Let go of the rows as written; whoever asks for them again opens them anew."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
