"""The rows of one flow's inputs, as its user chose them.

Owns how often the inputs are opened, and the check that the columns are there. What rows are is runtime.rows' affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sundog.flow.columns import check_columns
from sundog.ir.logical import InputSource, LogicalPlan
from sundog.ir.schemas.shape import Record
from sundog.runtime.rows.inputs import RowSource, open_rows
from sundog.runtime.rows.row_choice import RowChoice


class FlowRows:
    """This class opens the inputs of `written`. It reads nothing before it is asked; its methods raise InputError."""

    def __init__(self, written: LogicalPlan, base_dir: Path, choice: RowChoice) -> None:
        self._written = written
        self._base_dir = base_dir
        self._choice = choice
        self._opened: RowSource | None = None
        self._checked: Record | None = None

    def as_written(self) -> RowSource:
        """Return the rows with every column that the inputs have. All who ask share one source until `close`, so that
        the files are gone through once for all of them; it knows no snapshots."""
        if self._opened is None:
            self._opened = self.open(self._written.inputs, None)
        return self._opened

    def open(self, inputs: Sequence[InputSource], snapshot_dir: Path | None) -> RowSource:
        """Return rows of `inputs` that belong to the caller, who closes them. `snapshot_dir`: as in `open_rows`."""
        rows = open_rows(inputs, base_dir=self._base_dir, snapshot_dir=snapshot_dir, choice=self._choice)
        # Files have the columns that they had. Those of a query are seen in its snapshots, and these differ.
        if isinstance(rows.shape, Record) and rows.shape != self._checked:
            check_columns(self._written, rows.shape)
            self._checked = rows.shape
        return rows

    def close(self) -> None:
        """Let go of the rows as written; whoever asks for them again opens them anew."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
