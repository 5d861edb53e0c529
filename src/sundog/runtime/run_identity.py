"""This module finds the run that a command means: the unfinished one it continues, the finished one it repeats, or a
new one.

Owns that choice and the snapshots that belong to a run. Never runs anything.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sundog.errors import ConfigError
from sundog.ir.values.canonical import fingerprint
from sundog.private_files import make_private_folder
from sundog.runtime.tables.flow_inputs import FlowInputs
from sundog.store.runs import RunList, RunRecord

OpenInputs = Callable[[Path], FlowInputs]
"""Opens the inputs, with their snapshots in the given folder."""


@dataclass(frozen=True, slots=True)
class RunCommand:
    """The run that is asked for."""

    #: All that makes two runs the same but the rows and `modules`, as JSON types.
    parts: Mapping[str, Any]
    flow: str
    output: str
    #: By step, those that change something outside, as JSON types.
    effects: Mapping[str, Any]
    #: Digests by file of the code that the flow's functions are in.
    modules: Mapping[str, str]
    is_fresh: bool
    retries_failed: bool
    #: Effects of other runs may be made again.
    repeats_effects: bool

    @property
    def key(self) -> bytes:
        return fingerprint(self.parts)


@dataclass(frozen=True, slots=True)
class SelectedRun:
    """The run that a command means."""

    record: RunRecord
    inputs: FlowInputs
    is_new: bool
    #: Files of the flow's functions that have changed since `before` began, which is why this run is new.
    changed: tuple[str, ...] = ()
    before: str = ""


def select_run(runs: RunList, command: RunCommand, open_inputs: OpenInputs) -> SelectedRun:
    """Call it under the command's lock. ConfigError where effects of another run would be repeated unasked."""
    latest = None if command.is_fresh else runs.latest(command.key)
    if latest is not None and latest.state != "finished" and not _changed(latest, command):
        # Rows of a query or a function may have changed since; an unfinished run goes on with those it began with.
        runs.fetch_files(latest.run_id)
        snapshots = runs.folder(latest.run_id) / "inputs"
        inputs = open_inputs(snapshots)
        if _identity(command.key, inputs, snapshots) == latest.identity:
            return SelectedRun(_continued(runs, latest, command), inputs, is_new=False)
    staging = Path(tempfile.mkdtemp(prefix="inputs-", dir=runs.state_dir))
    try:
        inputs = open_inputs(staging)
        num_rows = inputs.count()
        identity = _identity(command.key, inputs, staging)
        is_same = latest is not None and latest.identity == identity
        if latest is not None and is_same and not _changed(latest, command):
            record = _continued(runs, latest, command)
            runs.fetch_files(latest.run_id)
            inputs = _at(runs.folder(latest.run_id) / "inputs", inputs, open_inputs)
            return SelectedRun(record, inputs, is_new=False)
        record = _started(runs, command, identity, _effects(command, inputs, staging), num_rows)
        folder = runs.folder(record.run_id)
        make_private_folder(folder)
        staging.rename(folder / "inputs")
        runs.keep_files(record.run_id, "inputs/*")
        inputs = _at(folder / "inputs", inputs, open_inputs)
        if latest is not None and is_same:
            return SelectedRun(record, inputs, is_new=True, changed=_changed(latest, command), before=latest.run_id)
        return SelectedRun(record, inputs, is_new=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _at(snapshots: Path, inputs: FlowInputs, open_inputs: OpenInputs) -> FlowInputs:
    """Return `inputs` with their snapshots in a folder of the run; those that have none are not read a second time."""
    return open_inputs(snapshots) if inputs.has_snapshots else inputs


def _changed(latest: RunRecord, command: RunCommand) -> tuple[str, ...]:
    """Return files of functions that are not what they were when `latest` began; nobody minds when only its failed rows
    are tried again."""
    if command.retries_failed:
        return ()
    before: dict[str, str] = json.loads(latest.modules)
    names = sorted({*before, *command.modules})
    return tuple(name for name in names if before.get(name) != command.modules.get(name))


def _continued(runs: RunList, latest: RunRecord, command: RunCommand) -> RunRecord:
    if latest.state != "finished" or command.retries_failed:
        if not latest.repeats_effects:
            _refuse_repeats(runs, command, latest, is_new=False)
        if command.repeats_effects:
            runs.allow_repeats(latest.run_id)
        runs.put_modules(latest.run_id, json.dumps(command.modules))
    return latest


def _started(runs: RunList, command: RunCommand, identity: bytes, effects: bytes, num_rows: int) -> RunRecord:
    record = runs.start(
        command.key,
        identity,
        command.flow,
        command.output,
        num_rows,
        is_fresh=command.is_fresh,
        effects=effects,
        modules=json.dumps(command.modules),
    )
    try:
        _refuse_repeats(runs, command, record, is_new=True)
    except ConfigError:
        runs.forget(record.run_id)
        raise
    if command.repeats_effects:
        runs.allow_repeats(record.run_id)
    return record


def _refuse_repeats(runs: RunList, command: RunCommand, record: RunRecord, *, is_new: bool) -> None:
    if not record.effects or command.repeats_effects:
        return
    runs.meet_others()
    steps = ", ".join(command.effects)
    repeat = "say --repeat-effects (in Python repeat_effects=True) if they are to happen again"
    if others := runs.others_with_effects(record.effects, tuple(command.effects), record.run_id):
        run_id, number = others[0]
        raise ConfigError(
            f"run {run_id} has made or begun {number:,} effects ({steps}) of this flow over the same input, and this "
            "run would make them again",
            hint=f"repeat that run's command to continue it, or {repeat}",
        )
    if other := runs.at_work_with_effects(record.effects, record.run_id, is_new=is_new):
        raise ConfigError(
            f"run {other} is at work now on the effects ({steps}) of this flow over the same input, and this run "
            "would make them again",
            hint=f"wait for it, or {repeat}",
        )


def _effects(command: RunCommand, inputs: FlowInputs, snapshots: Path) -> bytes:
    """Return a value that is equal for runs whose effects are the same ones: steps of one name and text, in a flow of
    one name, over inputs of the same content, however many of their rows; empty where there are none."""
    if not command.effects:
        return b""
    inputs = inputs.content_identity()["inputs"]
    return fingerprint([command.flow, dict(command.effects), inputs, _digests(snapshots)])


def _identity(command: bytes, inputs: FlowInputs, snapshots: Path) -> bytes:
    """Return what is equal for one command over the same rows: those of files are known by the files, those of queries
    and functions by their snapshots, which `inputs.count()` has made."""
    return fingerprint([command.hex(), inputs.content_identity(), _digests(snapshots)])


def _digests(snapshots: Path) -> list[list[str]]:
    return [[path.name, _digest(path)] for path in sorted(snapshots.glob("*.jsonl"))]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
