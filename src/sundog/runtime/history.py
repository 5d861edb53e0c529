"""The runs of a state folder, for whoever looks at them from outside.

Owns summaries and where a run's event logs are. Never changes a run, never makes a state folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sundog.errors import ConfigError
from sundog.runtime.store.runs import RunList, RunRecord
from sundog.runtime.store.store import Store


@dataclass(frozen=True, slots=True)
class RunSummary:
    """`state`: running (a process works on it now), unfinished (the same command continues it) or finished.
    `rows` of its input; `done`, `failed` and `dropped` have ended. `began` and `ended`: ISO times, UTC."""

    run: str
    flow: str
    state: str
    rows: int
    done: int
    failed: int
    dropped: int
    began: str
    ended: str | None
    busy_s: float
    output: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def list_runs(state_dir: Path) -> list[RunSummary]:
    """Newest first; empty where there is no state folder."""
    if not state_dir.is_dir():
        return []
    with _opened(state_dir) as (store, runs):
        return [_summary(record, store, runs) for record in runs.all()]


def event_logs(state_dir: Path, run_id: str) -> list[Path]:
    """The logs of a run, oldest first; ConfigError where there is no such run or nothing of it was executed."""
    if not state_dir.is_dir():
        raise ConfigError(f"there are no runs in {state_dir}", hint="name the folder with --state or SUNDOG_STATE")
    with _opened(state_dir) as (_, runs):
        logs = sorted(runs.folder(runs.find(run_id).run_id).glob("events-*.jsonl.gz"))
    if not logs:
        raise ConfigError(f"the run '{run_id}' has no event log", hint="it was stopped before anything was executed")
    return logs


@contextmanager
def _opened(state_dir: Path) -> Iterator[tuple[Store, RunList]]:
    store = Store(state_dir)
    try:
        yield store, RunList(store, state_dir)
    finally:
        store.close()


def _summary(record: RunRecord, store: Store, runs: RunList) -> RunSummary:
    counts = store.count_rows(record.run_id)
    is_running = record.state != "finished" and runs.is_locked(record.command)
    return RunSummary(
        run=record.run_id,
        flow=record.flow,
        state="running" if is_running else record.state,
        rows=record.num_rows,
        done=counts.get("done", 0),
        failed=counts.get("failed", 0),
        dropped=counts.get("dropped", 0),
        began=record.started_at,
        ended=record.ended_at,
        busy_s=record.busy_s,
        output=record.output,
    )
