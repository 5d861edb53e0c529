"""A run as it stands, read from the state folder while another process may work on it, or after it has ended.

Owns what is read and its bounds. Never changes a run, and opens no engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sundog.runtime.kept_runs import RunSummary, list_runs, opened_run
from sundog.runtime.open_run import PLAN_FILE
from sundog.store.runs import RunList
from sundog.store.segments.opened import state_cache
from sundog.store.store import Store
from sundog.store.totals import NodeTotals, node_totals

MAX_FAILURES = 1_000
"""So many of the newest failed rows are looked at."""


class RowFailure(NamedTuple):
    """One failed row."""

    table: str
    node: str
    #: The name of the error and what it says.
    cause: str


@dataclass(frozen=True, slots=True)
class RunStanding:
    """A run at one moment."""

    summary: RunSummary
    #: By table and state, rows that have ended; a flow of one table has the name "".
    rows: Mapping[str, Mapping[str, int]]
    #: By step.
    nodes: Mapping[str, NodeTotals]
    #: The newest ones first.
    failures: tuple[RowFailure, ...]
    #: Its plan, as `keep_plan` wrote it; None for a run of an earlier version.
    plan: bytes | None


def meant_run(state_dir: Path, written: str) -> str:
    """Return the id of the run that `written` means; ConfigError where there is none."""
    with opened_run(state_dir, written) as (_, run_id):
        return run_id


def read_standing(state_dir: Path, run_id: str) -> RunStanding:
    """Return the run as it stands now, also where other machines work on it; ConfigError where it is gone."""
    if (cache := state_cache(state_dir)) is not None:
        cache.catch_up()
    (summary,) = (one for one in list_runs(state_dir, run_id) if one.run == run_id)
    with opened_run(state_dir, run_id) as (store, _):
        rows: dict[str, dict[str, int]] = {}
        for (table, state), number in store.count_rows(run_id).items():
            rows.setdefault(table, {})[state] = number
        failures = tuple(_failures(store, run_id)) if summary.failed else ()
        runs = RunList(store, state_dir)
        runs.fetch_file(run_id, PLAN_FILE)
        plan = runs.folder(run_id) / PLAN_FILE
        return RunStanding(
            summary, rows, node_totals(store, run_id), failures, plan.read_bytes() if plan.is_file() else None
        )


def _failures(store: Store, run_id: str) -> Iterator[RowFailure]:
    query = "select table_name, body from rows where run_id = ? and state = 'failed' order by seq desc limit ?"
    for table, body in store.select(query, (run_id, MAX_FAILURES)):
        told = store.decoded(body)
        yield RowFailure(table, told["node"].rpartition("/")[2], told["cause"])
