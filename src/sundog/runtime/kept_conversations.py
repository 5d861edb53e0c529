"""The conversations of kept runs, for whoever reads them.

Owns which row is meant, and how it stands. Never changes a run.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sundog.errors import ConfigError
from sundog.ir.conversations.transcript import RowConversations, RowTranscripts
from sundog.ir.row_ids import RowRef, encode_row_id, read_row_ref
from sundog.runtime.kept_runs import opened_run
from sundog.store.store import Store
from sundog.store.transcripts import KeptTranscripts

NUM_NAMED = 5


class SomeConversations(NamedTuple):
    """The conversations of some rows of a run."""

    rows: tuple[RowConversations, ...]
    #: How many rows have conversations.
    num_rows: int


def num_conversations(state_dir: Path, run: str) -> int:
    """Return how many rows have conversations of the run that `run` means, as `run_id_of` says."""
    with opened_run(state_dir, run) as (store, run_id):
        return len(KeptTranscripts(store, run_id))


def some_conversations(state_dir: Path, run: str, limit: int) -> SomeConversations:
    """Return the conversations of at most `limit` rows: one for each way in which they ended, then the first ones."""
    with opened_run(state_dir, run) as (store, run_id):
        kept = KeptTranscripts(store, run_id)
        rows = ((row, kept.get(row)) for row in kept.some_rows(limit))
        found = tuple(_told(store, kept, run_id, row, said) for row, said in rows if said is not None)
        return SomeConversations(found, len(kept))


def conversations_of(state_dir: Path, run: str, row: str) -> RowConversations:
    """Return the conversations of a row, by its number, behind its table where the flow has several. ConfigError where
    there are none."""
    try:
        meant = read_row_ref(row)
        if str(meant) != row or min(meant.row_id) < 0:
            raise ValueError(row)
    except ValueError:
        raise ConfigError(
            f"'{row}' is no row", hint="as errors files name them: 17, or 17.3; drugs:17 of a table"
        ) from None
    with opened_run(state_dir, run) as (store, run_id):
        kept = KeptTranscripts(store, run_id)
        said = kept.get(meant)
        if said is None:
            raise _nothing(store, kept, run_id, meant)
        return _told(store, kept, run_id, meant, said)


def _told(store: Store, kept: KeptTranscripts, run_id: str, row: RowRef, said: RowTranscripts) -> RowConversations:
    keys = [one.answer_key for transcript in said.transcripts for one in transcript.said if one.answer_key]
    return RowConversations(run_id, str(row), _state(store, run_id, row) or "has not ended", said, kept.answered(keys))


def _state(store: Store, run_id: str, row: RowRef) -> str:
    """Return how a row has ended, empty where it has not."""
    query = "select state, body from rows where run_id = ? and table_name = ? and row_id = ?"
    for state, body in store.select(query, (run_id, row.table, encode_row_id(row.row_id))):
        if state != "failed":
            return str(state)
        failure = store.decoded(body)
        return f"failed at {failure['node']}: {failure['cause']}"
    return ""


def _nothing(store: Store, kept: KeptTranscripts, run_id: str, row: RowRef) -> ConfigError:
    named = [str(one) for one in kept.some_rows(NUM_NAMED)]
    hint = f"rows that have some: {', '.join(named)}" + (", ..." if len(kept) > len(named) else "")
    if not named:
        hint = "they are kept of agents, loops, people's answers, and of messages that come from rows"
    if not _state(store, run_id, row):
        return ConfigError(f"row {row} has not ended in the run {run_id}, or there is none", hint=hint)
    return ConfigError(f"row {row} of the run {run_id} has no conversation", hint=hint)
