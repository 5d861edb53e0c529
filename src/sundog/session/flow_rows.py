"""The rows of one flow's inputs, as its user chose them.

Owns how often the inputs are opened, and the check that the columns are there. Queries and functions are run once for
all that a command does. What rows are is runtime.rows' affair.
"""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path
from tempfile import mkdtemp

from sundog.flow.columns import check_columns
from sundog.ir.logical import LogicalPlan
from sundog.ir.schemas.shape import Record
from sundog.runtime.rows.row_choice import RowChoice
from sundog.runtime.rows.snapshot import copy_snapshot
from sundog.runtime.tables.flow_inputs import FlowInputs


class KeptSnapshots:
    """This class holds the folder with the rows of queries and functions of one command, which goes with it."""

    def __init__(self) -> None:
        self.folder = Path(mkdtemp(prefix="sundog-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


class FlowRows:
    """This class opens the inputs of `written`. It reads nothing before it is asked; its methods raise InputError."""

    def __init__(
        self, written: LogicalPlan, base_dir: Path, choice: RowChoice, kept: KeptSnapshots | None = None
    ) -> None:
        """`kept`: those of another one with the same inputs."""
        self._written = written
        self.kept = kept
        if kept is None and any(source.path is None for source in written.inputs):
            self.kept = KeptSnapshots()
        self._base_dir = base_dir
        self._choice = choice
        self._opened: FlowInputs | None = None
        self._checked: dict[str, Record] = {}

    def as_written(self) -> FlowInputs:
        """Return the inputs with every column that they have. All who ask share them until `close`, so that the files
        are gone through once for all of them; they know no snapshots of runs."""
        if self._opened is None:
            self._opened = self.open(self._written, None if self.kept is None else self.kept.folder)
        return self._opened

    def open(self, plan: LogicalPlan, snapshot_dir: Path | None) -> FlowInputs:
        """Return the inputs of `plan`, for the caller to close. `snapshot_dir`: as in `open_rows`."""
        if self.kept is not None and snapshot_dir is not None:
            for source in self._written.inputs:
                copy_snapshot(source.name, self.kept.folder, snapshot_dir)
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
