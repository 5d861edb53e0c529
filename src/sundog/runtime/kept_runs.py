"""The runs of a state folder, for whoever looks at them from outside.

Owns summaries, what a written run id means, a run's rows and where its event logs are. Never changes a run, never makes
a state folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic_core import to_json

from sundog.errors import ConfigError, suggest
from sundog.host.event_log import read_log
from sundog.ir.row_ids import RowId
from sundog.runtime.figures.failed_rows import failed_rows, num_told
from sundog.runtime.rows.outputs import write_rows
from sundog.store.runs import RunList, RunRecord
from sundog.store.schema import STORE_FILE
from sundog.store.segments.opened import state_cache
from sundog.store.store import Store


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run in the list of runs."""

    run: str
    flow: str
    #: Running (a process works on it now), unfinished (the same command continues it), waits (it does so once a person
    #: has answered), live (of a served flow, and nobody serves it now) or finished.
    state: str
    #: Rows of its input, of several tables those of all once it has finished, and None before, as of a live run;
    #: `done`, `failed` and `dropped` have ended.
    rows: int | None
    done: int
    failed: int
    dropped: int
    #: Rows made of rows that failed.
    not_run: int
    #: ISO time, UTC.
    began: str
    #: ISO time, UTC.
    ended: str | None
    busy_s: float
    output: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


LAST = "last"
FAILURE_COLUMNS = ("table", "row", "node", "cause", "hint", "attempts", "because_of")


class RunRows:
    """The output rows of a table of a run, or its failed ones, streamed in their order. `table`: None for all tables,
    of failed rows only. `num_others`: how many there are of the other kind."""

    def __init__(self, store: Store, run_id: str, table: str | None, *, is_failed: bool) -> None:
        self._store = store
        self.run_id = run_id
        self.is_failed = is_failed
        self._tables = store.tables(run_id) if table is None else [table]
        counts = store.count_rows(run_id)
        num_done = sum(counts.get((name, "done"), 0) for name in self._tables)
        num_failed = num_told(store, run_id, self._tables)
        self.num_rows, self.num_others = (num_failed, num_done) if is_failed else (num_done, num_failed)
        columns = FAILURE_COLUMNS if any(self._tables) else FAILURE_COLUMNS[1:-1]
        self.columns = columns if is_failed else tuple(next(iter(self), {}))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self._store.decoded(body) for _, body in self._bodies())

    def write(self, stream: BinaryIO, form: Literal["csv", "jsonl"], limit: int | None = None) -> tuple[str, ...]:
        """Write the first `limit` rows, None for all, as an output file would hold them; returns warnings."""
        return write_rows(stream, form, self.columns, lambda: islice(self._bodies(), limit))

    def _bodies(self) -> Iterator[tuple[RowId, bytes]]:
        if not self.is_failed:
            for table in self._tables:
                yield from self._store.rows(self.run_id, table, "done")
            return
        for number, row in enumerate(failed_rows(self._store, self.run_id, self._tables)):
            yield (number,), to_json({name: row.get(name) for name in self.columns})


@contextmanager
def opened_rows(state_dir: Path, run_id: str, table: str | None, *, is_failed: bool) -> Iterator[RunRows]:
    """The rows of a table of the run that `run_id` means, as `run_id_of` says; ConfigError where it has several tables
    and none of them is named, unless failed rows are asked for."""
    with _opened(_known(state_dir)) as (store, runs):
        meant = _meant(runs, run_id)
        yield RunRows(store, meant, _table_meant(store.tables(meant), table, is_failed=is_failed), is_failed=is_failed)


@contextmanager
def opened_run(state_dir: Path, run_id: str) -> Iterator[tuple[Store, str]]:
    """The store, and the run that `run_id` means, as `run_id_of` says; ConfigError where there is none."""
    with _opened(_known(state_dir)) as (store, runs):
        yield store, _meant(runs, run_id)


def list_runs(state_dir: Path, prefix: str = "") -> list[RunSummary]:
    """Return the runs whose id begins with `prefix`, newest first; `last` is the newest one. Empty where there is no
    state folder; ConfigError where no id begins so."""
    if not prefix and not _has_runs(state_dir):
        return []
    with _opened(_known(state_dir)) as (store, runs):
        records = runs.all()
        wanted = records[:1] if prefix == LAST else [one for one in records if one.run_id.startswith(prefix)]
        if prefix and not wanted:
            raise _no_run(runs, prefix)
        at_work = runs.at_work(one.command for one in wanted if one.state != "finished")
        return [_summary(record, store, is_at_work=record.command in at_work) for record in wanted]


def shown_state(state_dir: Path) -> str:
    """Return the folder or URL of a state as its user names it."""
    cache = state_cache(state_dir)
    return str(state_dir) if cache is None else cache.url


def run_ids_of(state_dir: Path) -> list[str]:
    """Return the ids of all runs, newest first; empty where there is no state folder."""
    if not _has_runs(state_dir):
        return []
    with _opened(state_dir) as (_, runs):
        return [record.run_id for record in runs.all()]


def run_folders(state_dir: Path) -> list[tuple[str, Path]]:
    """Return the ids and folders of all runs, newest first; empty where there is no state folder."""
    if not _has_runs(state_dir):
        return []
    with _opened(state_dir) as (_, runs):
        return [(one.run_id, runs.folder(one.run_id)) for one in runs.all()]


def run_id_of(state_dir: Path, written: str) -> str:
    """Return the id of the run that `written` means: an id, as much of it as no other begins with, or `last`;
    ConfigError where there is none."""
    with _opened(_known(state_dir)) as (_, runs):
        return _meant(runs, written)


def event_logs(state_dir: Path, run_id: str, cell: str | None = None) -> list[Path]:
    """Return the logs of a run, oldest first. `cell`: of a run on many machines, the name of a cell, or the number of a
    place, at which cells have followed one another. ConfigError where there is no such run or cell, where it has cells
    and none is named, and where nothing was executed."""
    with _opened(_known(state_dir)) as (_, runs):
        record = runs.find(run_id)
        cells = runs.cells(record.run_id)
        logs: list[Path] = []
        for folder in [""] if cell is None else _cells_meant(cells, cell):
            runs.fetch_event_logs(record.run_id, folder)
            logs += (runs.folder(record.run_id) / folder).glob("events-*.jsonl.gz")
    if cells and not logs:
        raise ConfigError(
            f"each cell of the run '{run_id}' has an event log of its own: {', '.join(cells)}",
            hint=f"name one, or its number: sundog trace {run_id} --cell {_place(cells[0])}",
        )
    if not logs:
        raise ConfigError(f"the run '{run_id}' has no event log", hint="it was stopped before anything was executed")
    return sorted(logs) if cell is None else sorted(logs, key=_began)


def _cells_meant(cells: list[str], written: str) -> list[str]:
    """Return the cells that are meant: one by its name, or those of a place by its number."""
    found = [one for one in cells if written in (one, _place(one))]
    if not found:
        hint = suggest(written, cells) if cells else "it was worked on by one process"
        raise ConfigError(f"no event log of a cell '{written}' was kept", hint=hint)
    return found


def _place(cell: str) -> str:
    """Return the number in a cell's name, `cell-7-1a2b3c4d`."""
    return cell.split("-")[1] if cell.count("-") == 2 else cell


def _began(log: Path) -> str:
    """Return when a log begins, by the clock of its machine."""
    found = read_log(log)
    return "" if found is None else found[0].started_at


def _table_meant(tables: list[str], table: str | None, *, is_failed: bool) -> str | None:
    if table is None:
        if is_failed or len(tables) < 2:
            return None
        raise ConfigError(f"the run has {len(tables)} tables", hint=f"name one with --table: {', '.join(tables)}")
    if table not in tables:
        known = suggest(table, [*filter(None, tables)])
        hint = f"{known}; a table that none of the results reads is not run" if any(tables) else "it has no tables"
        raise ConfigError(f"the run has no rows of a table '{table}'", hint=hint)
    return table


def _has_runs(state_dir: Path) -> bool:
    """Return whether this is a state folder: to look into another one must not make it one."""
    return (state_dir / STORE_FILE).is_file()


def _known(state_dir: Path) -> Path:
    if not _has_runs(state_dir):
        raise ConfigError(f"there are no runs in {state_dir}", hint="name the folder with --state or SUNDOG_STATE")
    return state_dir


def _meant(runs: RunList, written: str) -> str:
    known = [record.run_id for record in runs.all()]
    if written in known:
        return written
    if written == LAST and known:
        return known[0]
    found = [run_id for run_id in known if written and run_id.startswith(written)]
    if len(found) > 1:
        listed = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise ConfigError(f"{len(found)} runs begin with '{written}'", hint=f"write more of one of: {listed}")
    if not found:
        raise _no_run(runs, written)
    return found[0]


def _no_run(runs: RunList, written: str) -> ConfigError:
    known = [record.run_id for record in runs.all()]
    return ConfigError(f"there is no run '{written}' in {runs.where}", hint=suggest(written, known))


@contextmanager
def _opened(state_dir: Path) -> Iterator[tuple[Store, RunList]]:
    store = Store(state_dir)
    try:
        yield store, RunList(store, state_dir)
    finally:
        store.close()


def _summary(record: RunRecord, store: Store, *, is_at_work: bool) -> RunSummary:
    counts = store.count_states(record.run_id)
    has_tables = any(table for table, _ in store.count_rows(record.run_id))
    num_rows: int | None = None if record.state == "live" else record.num_rows
    if has_tables:
        # How many rows queries give is known when all have ended.
        num_rows = sum(counts.values()) if record.state == "finished" else None
    state: str = record.state
    if state != "finished" and is_at_work:
        state = "running"
    elif state == "waits" and not store.awaited(record.run_id):
        state = "unfinished"
    return RunSummary(
        run=record.run_id,
        flow=record.flow,
        state=state,
        rows=num_rows,
        done=counts["done"],
        failed=counts["failed"],
        dropped=counts["dropped"],
        not_run=counts["not_run"],
        began=record.started_at,
        ended=record.ended_at,
        busy_s=record.busy_s,
        output=record.output,
    )
