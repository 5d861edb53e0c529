"""A Ray Dataset through a flow: its rows are those of one run on the cluster, whose output is a Dataset again.

Owns the way of the rows from the one to the other. The driver's disk has them in between, once: a run has to know its
rows to be one that goes on.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import pyarrow as pa
from pyarrow import parquet

from sundog.config import chosen_state, read_config
from sundog.errors import ConfigError, InputError, RunError, UserError, error_text, suggest
from sundog.private_files import make_private_folder, open_private
from sundog.ray.connection import require_ray
from sundog.ray.on_ray import work_on_ray
from sundog.ray.options import RayOptions
from sundog.runtime.drive import Drive
from sundog.runtime.figures.report import Report
from sundog.runtime.rows.folders.manifest import read_manifest
from sundog.runtime.rows.folders.output_folder import OutputFolder, folder_of
from sundog.runtime.rows.folders.places import place_of
from sundog.runtime.run import Run
from sundog.runtime.run_options import RunOptions
from sundog.session.choices import PlanChoices
from sundog.session.flow_file import load_plan
from sundog.session.session import Session, plan_session

if TYPE_CHECKING:
    from ray.data import Dataset

    from sundog.display import Display

BATCH_ROWS = 8192
STOPPING = "stopping: calls that run are finished and kept; interrupt once more to stop at once"


class MapOptions(TypedDict, total=False):
    """These options say how the rows are worked on, as those of `sundog run` do."""

    #: The URL of the state; None for SUNDOG_STATE.
    state: str | None
    #: The flow's input that the Dataset takes the place of; needed where it has several.
    input: str | None
    cells: int | None
    finish_in_s: float | None
    #: Failed rows that are left out of the result; without it a failed row is an error once all have ended.
    max_errors: int | None
    retry_failed: bool
    fresh: bool
    #: Show how the run goes; None does on a terminal and in a notebook.
    progress: bool | None


def map_dataset(dataset: Dataset, flow: str | Path, *, output: str, **options: Unpack[MapOptions]) -> Dataset:
    """Return the rows that a flow file makes of a Dataset's, in their order. They are those of one run on the cluster
    that this process is connected to: equal calls of all rows are made once, and the same call continues what was
    interrupted. `output`: the folder of Parquet parts, a path or a URL that all nodes see, with a slash at its end.
    ConfigError for options that do not fit, InputError for rows that have no form in Parquet, RunError where rows have
    failed and `max_errors` says nothing of it."""
    for name in options:
        if name not in MapOptions.__optional_keys__:
            raise TypeError(f"unknown option '{name}': {suggest(name, MapOptions.__optional_keys__)}")
    _require_ray_data()
    folder = folder_of(output)
    if folder is None or folder.format != "parquet":
        raise ConfigError(f"the output {output} is no folder of Parquet parts", hint="as in s3://bucket/answers/")
    with _rows_on_disk(dataset, _place_of_rows(Path(flow), folder, options)) as rows:
        report = _ran(Path(flow), rows, folder, options)
    if report.num_failed and options.get("max_errors") is None:
        raise RunError(
            f"{report.num_failed:,} of the rows have failed",
            hint=f"sundog show {report.run_id} --errors --state {chosen_state(options.get('state'))} prints them; "
            "retry_failed=True tries them again, max_errors=N leaves up to N of them out",
        )
    return _result(folder)


def _require_ray_data() -> None:
    require_ray()
    missing = [name for name in ("numpy", "pandas", "fsspec") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"Ray Data needs {', '.join(missing)}", hint="pip install 'ray[data]'")


def _place_of_rows(flow: Path, folder: OutputFolder, options: MapOptions) -> Path:
    """Return a file of this machine which is the same for the same call, as its path is a part of what a run is."""
    known = repr((str(flow.absolute()), folder.identity, chosen_state(options.get("state")), options.get("input")))
    return Path(tempfile.gettempdir()) / "sundog-datasets" / sha256(known.encode()).hexdigest()[:16] / "rows.parquet"


@contextmanager
def _rows_on_disk(dataset: Dataset, path: Path) -> Iterator[Path]:
    """Write the rows of a Dataset in their order, a batch at a time; the file is gone in the end. UserError where
    another process has it."""
    make_private_folder(path.parent)
    lock = open_private(path.with_name("lock"), os.O_RDWR)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                "another process makes the same output of a Dataset", hint="wait for it, or stop it"
            ) from error
        try:
            _write_rows(dataset, path)
            yield path
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _write_rows(dataset: Dataset, path: Path) -> None:
    writer: parquet.ParquetWriter | None = None
    schema = pa.schema([])
    try:
        for batch in _in_order(dataset):
            if writer is None:
                schema = batch.schema
                writer = parquet.ParquetWriter(path, schema)
            writer.write_table(batch.cast(schema))
    except (pa.ArrowException, NotImplementedError) as error:
        raise InputError(
            f"the rows of the Dataset have no form in Parquet: {error_text(error)}",
            hint="give its columns plain types, equal in all rows, before",
        ) from error
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise InputError("the Dataset has no rows", hint="look at dataset.count()")


def _in_order(dataset: Dataset) -> Iterator[pa.Table]:
    from ray.data import DataContext

    execution = DataContext.get_current().execution_options
    kept = execution.preserve_order
    execution.preserve_order = True
    try:
        for batch in dataset.iter_batches(batch_size=BATCH_ROWS, batch_format="pyarrow"):
            assert isinstance(batch, pa.Table), "as it was asked for"
            yield batch
    finally:
        execution.preserve_order = kept


def _ran(flow: Path, rows: Path, folder: OutputFolder, options: MapOptions) -> Report:
    from sundog.display import open_live_display

    config = read_config(options.get("state"))
    plan = load_plan(flow, {_input_name(flow, options.get("input")): rows})
    if len(plan.results) != 1:
        raise ConfigError(f"the flow has {len(plan.results)} results, and a Dataset is one", where=str(flow))
    table = plan.results[0]
    session = plan_session(plan, flow.parent, config, PlanChoices(outputs=(table,)))
    run_options = RunOptions(
        config.state_dir,
        {table: folder},
        is_fresh=options.get("fresh", False),
        max_errors=options.get("max_errors"),
        retry_failed=options.get("retry_failed", False),
    )
    asked = RayOptions(None, options.get("cells"), options.get("finish_in_s"))
    with closing(open_live_display(options.get("progress"))) as display:
        drive = Drive(lambda: display.note(STOPPING))
        with (
            work_on_ray(asked, config.state_dir, flow.parent) as means,
            session.open_run(run_options, means) as opened,
        ):
            return drive.in_thread(_executed(session, opened, display, drive.begin))


async def _executed(session: Session, opened: Run, display: Display, on_begun: Callable[[Run], None]) -> Report:
    from sundog.display import watching

    on_begun(opened)
    for finding in opened.findings:
        display.note(f"warning: {finding}")
    async with watching(opened.progress, display, partial(session.estimates.planned_calls, opened.record)):
        return await opened.execute(on_note=display.note)


def _input_name(flow: Path, named: str | None) -> str:
    """Return the input that a Dataset takes the place of."""
    names = [source.name for source in load_plan(flow, {}).inputs]
    if named is not None:
        return named
    if len(names) != 1:
        raise ConfigError(f"the flow has {len(names)} inputs: {', '.join(names)}", hint="say which, as in input='rows'")
    return names[0]


def _result(folder: OutputFolder) -> Dataset:
    import ray.data

    kept = place_of(folder).manifest()
    assert kept is not None, "the run has written it"
    manifest = read_manifest(folder, kept.body)
    names = [part.name for part in manifest.parts]
    paths = [folder.file(name) if folder.path is None else str(folder.path / name) for name in names]
    if not paths:
        empty: Any = pa.table({name: pa.array([], pa.null()) for name in manifest.columns})
        return ray.data.from_arrow(empty)
    return ray.data.read_parquet(paths)
