"""The history of a state folder: what its runs have shown of each node, in a small database of its own.

Owns the file `history.sqlite`. Every run adds to it in one transaction, so that runs that end at the same time both
count; a run that is killed adds nothing. Never estimates: cost.history does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sundog.cost.history import Histogram, History, NodeRecord
from sundog.engines.base import Usage
from sundog.host.attempt import Attempt
from sundog.private_files import make_private_file
from sundog.store.schema import store_error

CREATE_HISTORY = """
create table if not exists buckets (
    flow text not null, node text not null, model text not null, kind text not null, bucket integer not null,
    num_values integer not null,
    primary key (flow, node, model, kind, bucket)
) strict, without rowid;
create table if not exists sums (
    flow text not null, node text not null, model text not null, kind text not null,
    total real not null, squares real not null,
    primary key (flow, node, model, kind)
) strict, without rowid;
"""
ADD_BUCKET = """
insert into buckets values (?, ?, ?, ?, ?, ?)
on conflict do update set num_values = num_values + excluded.num_values
"""
ADD_SUMS = """
insert into sums values (?, ?, ?, ?, ?, ?)
on conflict do update set total = total + excluded.total, squares = squares + excluded.squares
"""


class Observations:
    """This class collects what one process's part of a run shows, as it happens. A record costs a microsecond, and
    little memory."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], NodeRecord] = {}

    def take(self) -> dict[tuple[str, str], NodeRecord]:
        """Return what was collected so far, and begin anew."""
        taken, self.records = self.records, {}
        return taken

    def add(self, seen: History) -> None:
        """Add what was taken here and could not be kept, or what others have collected."""
        for key, earlier in seen.items():
            record = self.records.setdefault(key, NodeRecord())
            record.num_judged += earlier.num_judged
            record.num_held += earlier.num_held
            of_record = _histograms(record)
            for kind, histogram in _histograms(earlier).items():
                for bucket, count in histogram.counts.items():
                    of_record[kind].counts[bucket] = of_record[kind].counts.get(bucket, 0) + count
                of_record[kind].total += histogram.total
                of_record[kind].squares += histogram.squares

    def executed(
        self,
        node: str,
        model: str,
        usage: Usage | None,
        call_s: float,
        *,
        num_counted_tokens: int = 0,
        num_result_bytes: float = 0.0,
    ) -> None:
        """A call succeeded: its last attempt took `call_s`. `model`: "" for a step without an engine.
        `num_counted_tokens`: of its prompt, as they were counted before; 0 where they were not. `num_result_bytes`: of
        its result as JSON; 0 where nobody tells."""
        record = self.records.get((node, model))
        if record is None:
            record = self.records[node, model] = NodeRecord()
        record.call_s.add(call_s)
        if num_result_bytes:
            record.result_bytes.add(num_result_bytes)
        if usage is not None:
            record.prompt_tokens.add(usage.num_prompt_tokens)
            record.output_tokens.add(usage.num_output_tokens)
            if num_counted_tokens:
                record.counted_tokens.add(num_counted_tokens)

    def heard(self, attempt: Attempt, model: str) -> None:
        """Keep what an attempt shows of the calls that it has answered. `model`: as of `executed`."""
        for _ in range(attempt.num_answered):
            self.executed(
                attempt.step,
                model,
                attempt.usage,
                attempt.call_s,
                num_counted_tokens=attempt.num_counted_tokens,
                num_result_bytes=attempt.num_result_bytes,
            )

    def judged(self, node: str, holds: bool) -> None:
        """A node's condition was evaluated for one row; this does not depend on a model."""
        record = self.records.setdefault((node, ""), NodeRecord())
        record.num_judged += 1
        record.num_held += holds

    def fanned_out(self, node: str, num_items: int) -> None:
        """A `for_each` had a list of so many elements."""
        self.records.setdefault((node, ""), NodeRecord()).num_items.add(num_items)

    def made(self, table: str, num_read: int, num_rows: int) -> None:
        """A table has so many rows, and the tables that its query reads had `num_read` done rows (at least 1)."""
        self.records.setdefault((table, ""), NodeRecord()).num_children.add(num_rows / num_read)

    def shared(self, node: str, num_asked: int, num_executed: int) -> None:
        """The rows of a run asked for so many calls of a step, and the run executed so many: more, where rows of it
        were forgotten."""
        if num_asked:
            self.records.setdefault((node, ""), NodeRecord()).executed_share.add(min(1.0, num_executed / num_asked))

    def turned(self, node: str, num_turns: int) -> None:
        """A loop ended after so many turns."""
        self.records.setdefault((node, ""), NodeRecord()).num_turns.add(num_turns)

    def took(self, node: str, call_s: float) -> None:
        """The calls of one use of a tool, an agent or a flow, took so long together."""
        self.records.setdefault((node, ""), NodeRecord()).call_s.add(call_s)

    def used_after(self, node: str, turn: int) -> None:
        """A conversation that has ended used a tool, whose step is `node`, after a turn; turns count from 1."""
        self.records.setdefault((node, ""), NodeRecord()).after_turns.add(turn)


def history_path(state_dir: Path) -> Path:
    return state_dir / "history.sqlite"


def read_history(state_dir: Path, flow: str) -> dict[tuple[str, str], NodeRecord]:
    """Return what is known of a flow's nodes; empty where nothing is. StoreError for a damaged file."""
    found: dict[tuple[str, str], NodeRecord] = {}
    if not history_path(state_dir).is_file():
        return found
    with _opened(state_dir) as connection:
        buckets = "select node, model, kind, bucket, num_values from buckets where flow = ?"
        for node, model, kind, bucket, num_values in connection.execute(buckets, (flow,)):
            record = found.setdefault((node, model), NodeRecord())
            if kind == "judged":
                record.num_judged += num_values
                record.num_held += bucket * num_values
            else:
                _histograms(record)[kind].counts[bucket] = num_values
        sums = "select node, model, kind, total, squares from sums where flow = ?"
        for node, model, kind, total, squares in connection.execute(sums, (flow,)):
            histogram = _histograms(found[node, model])[kind]
            histogram.total, histogram.squares = total, squares
    return found


def extend_history(state_dir: Path, flow: str, seen: History) -> None:
    """Add what one process's part of a run has shown. StoreError when it cannot be written."""
    if not seen:
        return
    with _opened(state_dir) as connection, connection:
        connection.execute("begin immediate")
        for (node, model), record in seen.items():
            key = (flow, node, model)
            for kind, histogram in _histograms(record).items():
                values = ((*key, kind, *counted) for counted in histogram.counts.items())
                connection.executemany(ADD_BUCKET, values)
                if histogram.counts:
                    connection.execute(ADD_SUMS, (*key, kind, histogram.total, histogram.squares))
            judged = ((0, record.num_judged - record.num_held), (1, record.num_held))
            connection.executemany(ADD_BUCKET, ((*key, "judged", *counted) for counted in judged if counted[1]))


def _histograms(record: NodeRecord) -> dict[str, Histogram]:
    kinds = (
        *("prompt_tokens", "counted_tokens", "output_tokens", "result_bytes"),
        *("call_s", "num_items", "num_turns", "num_children", "executed_share", "after_turns"),
    )
    return {kind: getattr(record, kind) for kind in kinds}


@contextmanager
def _opened(state_dir: Path) -> Iterator[sqlite3.Connection]:
    path = history_path(state_dir)
    try:
        make_private_file(path)
        connection = sqlite3.connect(path, isolation_level=None, timeout=60.0)
        try:
            connection.executescript(CREATE_HISTORY)
            yield connection
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise store_error(path, error) from error
