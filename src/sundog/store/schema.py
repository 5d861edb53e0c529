"""The tables of the store and how a connection is opened.

Owns the schema and its version. Never reads or writes rows.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from pathlib import Path

from sundog.errors import StoreError, error_text
from sundog.private_files import make_private_file, open_private

STORE_FILE = "store.sqlite"
STORE_VERSION = 9
CREATE_STORE = """
create table results (
    key blob primary key,
    run_id text not null,
    node text not null,
    value blob not null,
    num_prompt_tokens integer not null,
    num_cached_tokens integer not null,
    num_output_tokens integer not null,
    call_s real not null
) strict;
create table claims (
    key blob primary key,
    run_id text not null,
    request_id text not null
) strict;
create table awaited (
    run_id text not null,
    key blob not null,
    table_name text not null,
    row_id blob not null,
    path text not null,
    node text not null,
    question text not null,
    primary key (run_id, key, table_name, row_id, path)
) strict, without rowid;
create table executed (
    run_id text not null,
    node text not null,
    num_calls integer not null,
    num_prompt_tokens integer not null,
    num_cached_tokens integer not null,
    num_output_tokens integer not null,
    primary key (run_id, node)
) strict, without rowid;
create table rows (
    seq integer primary key,
    run_id text not null,
    table_name text not null,
    row_id blob not null,
    state text not null,
    body blob not null,
    asked text not null,
    unique (run_id, table_name, row_id)
) strict;
create table transcripts (
    run_id text not null,
    table_name text not null,
    row_id blob not null,
    ended text not null,
    body blob not null,
    primary key (run_id, table_name, row_id)
) strict, without rowid;
create table answered (
    key blob primary key,
    answered_by text not null,
    answered_at text not null
) strict;
create table asked (
    run_id text not null,
    table_name text not null,
    node text not null,
    num_calls integer not null,
    num_prompt_tokens integer not null,
    num_output_tokens integer not null,
    primary key (run_id, table_name, node)
) strict, without rowid;
create table runs (
    run_id text primary key,
    command blob not null,
    identity blob not null,
    flow text not null,
    output text not null,
    state text not null,
    is_fresh integer not null,
    started_at text not null,
    ended_at text,
    num_rows integer not null,
    busy_s real not null default 0,
    effects blob not null,
    modules text not null,
    repeats_effects integer not null
) strict;
create index runs_by_command on runs (command);
create table accepted (
    request_id text primary key,
    run_id text not null,
    number integer not null,
    principal text not null,
    idempotency_key text,
    digest blob not null,
    body blob not null,
    accepted_at real not null,
    ended text,
    unique (run_id, number)
) strict;
create unique index accepted_by_key on accepted (run_id, principal, idempotency_key)
    where idempotency_key is not null;
create index accepted_open on accepted (run_id, number) where ended is null;
create table files (
    number integer primary key,
    file_id text not null unique,
    principal text not null,
    purpose text not null,
    filename text not null,
    num_bytes integer not null,
    created_at real not null,
    expires_at real,
    batch_id text
) strict;
create index files_by_principal on files (principal, number);
create table batches (
    number integer primary key,
    batch_id text not null unique,
    principal text not null,
    input_file_id text not null,
    endpoint text not null,
    completion_window text not null,
    metadata text,
    output_expires_s real,
    output_file_id text not null,
    error_file_id text not null,
    created_at real not null,
    expires_at real not null,
    status text not null,
    times text not null,
    num_lines integer not null,
    num_completed integer not null,
    num_failed integer not null,
    errors text not null
) strict;
create index batches_by_principal on batches (principal, number);
create index batches_open on batches (number)
    where status in ('validating', 'in_progress', 'finalizing', 'cancelling');
create table batch_lines (
    batch_id text not null,
    number integer not null,
    is_error integer not null,
    body blob not null,
    primary key (batch_id, number)
) strict;
create index batch_lines_by_kind on batch_lines (batch_id, is_error, number);
create table spent (
    scope text primary key,
    nano_usd integer not null,
    num_tokens integer not null,
    reserved_nano_usd integer not null,
    num_reserved_tokens integer not null
) strict, without rowid;
create table budgets (
    scope text primary key,
    max_usd real not null,
    told_at real not null
) strict, without rowid;
create table api_keys (
    key_hash blob primary key,
    key_id text not null unique,
    shown text not null,
    name text not null,
    tenant text not null,
    terms text not null,
    created_at text not null,
    expires_at real,
    revoked_at text
) strict, without rowid;
create unique index api_keys_by_name on api_keys (name) where revoked_at is null;
create table tenants (
    tenant text primary key,
    max_usd real,
    max_tokens integer
) strict, without rowid;
"""


def connect_store(path: Path) -> sqlite3.Connection:
    """Return a connection in WAL mode; a commit is on the disk when it returns. Creates the tables when they are
    missing."""
    # One opens at a time: while two switch a new file to WAL mode, SQLite refuses one of them without waiting.
    try:
        with os.fdopen(open_private(path.with_suffix(".lock"), os.O_WRONLY), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            make_private_file(path)
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60.0)
            connection.execute("pragma journal_mode=wal")
            connection.execute("pragma synchronous=full")
            connection.execute("pragma cache_size=-16384")
            _migrate(connection, path)
    except (sqlite3.Error, OSError, ValueError) as error:  # UnicodeDecodeError: messages about a damaged file
        raise store_error(path, error) from error
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("pragma user_version").fetchone()
    if version == STORE_VERSION:
        return
    connection.execute("begin immediate")
    (version,) = connection.execute("pragma user_version").fetchone()
    if version == 0:
        for statement in CREATE_STORE.split(";"):
            connection.execute(statement)
        connection.execute(f"pragma user_version={STORE_VERSION}")
    connection.execute("commit")
    if version not in (0, STORE_VERSION):
        raise StoreError(
            f"the store has form {version}, this sundog reads form {STORE_VERSION}",
            where=str(path),
            hint="use another --state folder, or the sundog version that made this one",
        )


_DAMAGED = ("malformed", "not a database", "Could not decode to UTF-8", "database corruption")


def damaged(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"the store is damaged ({error_text(error)})", where=str(path), hint="move it away or use another --state"
    )


def store_error(path: Path, error: Exception) -> StoreError:
    """Return what a failure of SQLite means for the user."""
    text = str(error)
    if "full" in text or "No space" in text:
        return StoreError(
            "the disk is full", where=str(path), hint="free some space and repeat the command: it continues the run"
        )
    if isinstance(error, ValueError) or any(word in text for word in _DAMAGED):
        return damaged(path, error)
    if "readonly" in text or getattr(error, "errno", None) in (errno.EROFS, errno.EACCES, errno.EPERM):
        hint = "it must be writable, also to look at runs: choose another --state, or change its permissions"
        return StoreError(f"the state folder cannot be written: {text}", where=str(path.parent), hint=hint)
    text = text if isinstance(error, sqlite3.Error | OSError) else error_text(error)
    return StoreError(f"the store failed: {text}", where=str(path), hint="repeat the command: it continues the run")
