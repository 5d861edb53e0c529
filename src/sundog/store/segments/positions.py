"""This module keeps what a cache knows of its logs: how far, what it has not yet sent, which files runs have.

Owns the tables that only caches have. Each change of them is part of the transaction that it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass
from sqlite3 import Connection

_CREATE = """
create table if not exists log_positions (
    log text primary key,
    next_number integer not null,
    epoch text not null,
    has_closed integer not null,
    has_lost integer not null
) strict;
create table if not exists state_id (one integer primary key, id blob not null) strict;
create table if not exists outbox (
    number integer primary key autoincrement,
    log text not null,
    frame blob not null
) strict;
create table if not exists run_files (
    run_id text not null,
    path text not null,
    digest text not null,
    num_bytes integer not null,
    primary key (run_id, path)
) strict, without rowid;
"""


@dataclass(frozen=True, slots=True)
class LogPosition:
    """The point of a log up to which a cache holds its changes."""

    #: The first segment that it does not hold.
    next_number: int = 0
    #: The epoch of the last segment that it holds.
    epoch: str = ""
    #: The last segment says that its writer has stopped.
    has_closed: bool = True
    #: A result of this log is not in the cache, since one of another log was there before.
    has_lost: bool = False


@dataclass(frozen=True, slots=True)
class Unsent:
    """The first commits that a log still lacks."""

    last_commit: int
    frames: bytes


def create_tables(connection: Connection) -> None:
    """Make the tables where they are missing."""
    for statement in _CREATE.split(";"):
        connection.execute(statement)


def forget_all(connection: Connection) -> None:
    """Let the cache hold nothing. Those who have it open go on with what is read next."""
    tables = connection.execute("select name from sqlite_master where type = 'table' and name not like 'sqlite%'")
    for (name,) in tables.fetchall():
        connection.execute(f"delete from {name}")


def read_state_id(connection: Connection) -> bytes:
    """Return which state the cache was made of, empty where it knows none."""
    found = connection.execute("select id from state_id").fetchone()
    return b"" if found is None else bytes(found[0])


def put_state_id(connection: Connection, state_id: bytes) -> None:
    """Keep which state the cache is made of."""
    connection.execute("insert or replace into state_id values (1, ?)", (state_id,))


def read_position(connection: Connection, log: str) -> LogPosition:
    """Return how far the cache knows a log."""
    query = "select next_number, epoch, has_closed, has_lost from log_positions where log = ?"
    found = connection.execute(query, (log,)).fetchone()
    if found is None:
        return LogPosition()
    next_number, epoch, has_closed, has_lost = found
    return LogPosition(next_number, epoch, bool(has_closed), bool(has_lost))


def read_family(connection: Connection, log: str) -> dict[str, int]:
    """Return how far the cache knows the logs of the same run beside one, those that it knows at all."""
    name = log.partition(".")[0]
    query = "select log, next_number from log_positions where (log = ? or log glob ? || '.*') and log <> ? order by log"
    return {other: number for other, number in connection.execute(query, (name, name, log)) if number}


def put_position(connection: Connection, log: str, position: LogPosition) -> None:
    """Keep how far the cache knows a log."""
    values = (log, position.next_number, position.epoch, position.has_closed, position.has_lost)
    connection.execute("insert or replace into log_positions values (?, ?, ?, ?, ?)", values)


def mark_lost(connection: Connection, but: str) -> None:
    """Keep that results of each log but one may have been replaced."""
    connection.execute("update log_positions set has_lost = 1 where log <> ?", (but,))


def put_unsent(connection: Connection, log: str, frame: bytes) -> int:
    """Keep a commit that is to be sent; gives its number."""
    number = connection.execute("insert into outbox values (null, ?, ?)", (log, frame)).lastrowid
    assert number is not None, "it was inserted"
    return number


def logs_with_unsent(connection: Connection) -> list[str]:
    """Return the logs that lack commits of this cache."""
    return [log for (log,) in connection.execute("select distinct log from outbox order by log")]


def first_unsent(connection: Connection, log: str, max_bytes: int) -> Unsent | None:
    """Return the first commits that a log lacks, of about `max_bytes` together; None where it lacks none."""
    frames, last_commit = bytearray(), 0
    for number, frame in connection.execute("select number, frame from outbox where log = ? order by number", (log,)):
        frames += frame
        last_commit = number
        if len(frames) >= max_bytes:
            break
    return Unsent(last_commit, bytes(frames)) if last_commit else None


def drop_sent(connection: Connection, log: str, last_commit: int) -> None:
    """Forget the commits up to a number, which the log holds now."""
    connection.execute("delete from outbox where log = ? and number <= ?", (log, last_commit))
