"""Which run a command means: the unfinished one it continues, the finished one it repeats, or a new one.

Owns that choice and the snapshots that belong to a run. Never runs anything.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sundog.ir.canonical import fingerprint
from sundog.runtime.io.inputs import RowSource
from sundog.runtime.store.runs import RunList, RunRecord

OpenRows = Callable[[Path], RowSource]
"""Opens the inputs, with their snapshots in the given folder."""


@dataclass(frozen=True, slots=True)
class SelectedRun:
    record: RunRecord
    source: RowSource
    is_new: bool


def select_run(
    runs: RunList, command: Mapping[str, Any], open_rows: OpenRows, *, flow: str, output: str, is_fresh: bool
) -> SelectedRun:
    """`command`: all but the rows that makes two runs the same (JSON types). Call it under the command's lock."""
    key = fingerprint(command)
    latest = None if is_fresh else runs.latest(key)
    if latest is not None and latest.state != "finished":
        # Rows of a query or a function may have changed since; an unfinished run goes on with those it began with.
        snapshots = runs.folder(latest.run_id) / "inputs"
        source = open_rows(snapshots)
        if _identity(key, source, snapshots) == latest.identity:
            return SelectedRun(latest, source, is_new=False)
    staging = Path(tempfile.mkdtemp(prefix="inputs-", dir=runs.state_dir))
    try:
        source = open_rows(staging)
        num_rows = source.count()
        identity = _identity(key, source, staging)
        if latest is not None and latest.identity == identity:
            return SelectedRun(latest, open_rows(runs.folder(latest.run_id) / "inputs"), is_new=False)
        record = runs.start(key, identity, flow, output, num_rows, is_fresh=is_fresh)
        folder = runs.folder(record.run_id)
        folder.mkdir(parents=True)
        staging.rename(folder / "inputs")
        return SelectedRun(record, open_rows(folder / "inputs"), is_new=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _identity(command: bytes, source: RowSource, snapshots: Path) -> bytes:
    """Of the rows, too: those of files by the files, those of queries and functions by their snapshots, which
    `source.count()` has made."""
    made = sorted(snapshots.glob("*.jsonl"))
    return fingerprint([command.hex(), source.content_identity(), [[path.name, _digest(path)] for path in made]])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
