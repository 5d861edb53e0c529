"""A cache catches up with a log: the changes of its segments are made in the cache, each once.

Owns the order of that, and which of two results of one call stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from sqlite3 import Connection

from sundog.errors import StoreError
from sundog.store.segments.frames import unpack_frames
from sundog.store.segments.log import LogSegment, OtherLog, SegmentLog
from sundog.store.segments.positions import LogPosition, mark_lost, put_position, read_position
from sundog.store.segments.segment import damaged_segment
from sundog.store.statements import Change
from sundog.store.writer import PUT_RESULT

_NUM_AT_ONCE = 32
"""Segments that are one transaction of the cache."""

_DROP_EQUAL = """
delete from own where exists (
    select 1 from results where results.key = own.key and results.run_id = own.run_id and results.value = own.value
)
"""


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Commit all that is done inside, or none of it."""
    connection.execute("begin immediate")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        connection.rollback()
        raise


def catch_up(log: SegmentLog, connection: Connection, numbers: Sequence[int] | None = None) -> LogPosition:
    """Make the changes of all segments that the cache does not hold, each after those that it comes after in other
    logs; gives the point up to which the cache holds the log. `numbers`: segments that are there, None where they have
    to be listed. OtherLog where they do not follow those that it holds."""
    position = read_position(connection, log.name)
    numbers = log.numbers(position.next_number) if numbers is None else numbers
    # Some may have been read for another log that comes after them.
    segments = log.segments([number for number in numbers if number >= position.next_number])
    while some := list(islice(segments, _NUM_AT_ONCE)):
        for together in _cut_at_after(some):
            _read_before(together[0], log, connection)
            with transaction(connection):
                for segment in together:
                    _check_follows(position, segment)
                    position = _behind(position, segment, _apply(segment, connection))
                put_position(connection, log.name, position)
    return position


def _cut_at_after(segments: Sequence[LogSegment]) -> Iterator[list[LogSegment]]:
    """Yield segments in pieces, of which only the first one may come after other logs."""
    piece: list[LogSegment] = []
    for segment in segments:
        if piece and segment.header.after:
            yield piece
            piece = []
        piece.append(segment)
    yield piece


def _read_before(segment: LogSegment, log: SegmentLog, connection: Connection) -> None:
    """Let the cache hold what the writer of a segment knew of other logs, and no more: the rest may come after it."""
    for name, stop in segment.header.after.items():
        if (first := read_position(connection, name).next_number) < stop:
            catch_up(log.beside(name), connection, range(first, stop))


def restore_results(log: SegmentLog, connection: Connection) -> LogPosition:
    """Let the results of a log be those that its runs have seen, where the cache holds others of the same calls."""
    with transaction(connection):
        connection.execute("create temp table own as select * from results limit 0")
        connection.execute("create unique index temp.own_by_key on own (key)")
        for segment in log.segments(log.numbers(0)):
            for statement, rows in _changes(segment):
                if statement is PUT_RESULT:
                    marks = ", ".join("?" * len(rows[0]))
                    connection.executemany(f"insert or ignore into own values ({marks})", rows)
        connection.execute(_DROP_EQUAL)
        num_restored = connection.execute("insert or replace into results select * from own").rowcount
        connection.execute("drop table own")
        position = replace(read_position(connection, log.name), has_lost=False)
        if num_restored:
            mark_lost(connection, but=log.name)
        put_position(connection, log.name, position)
    return position


def _check_follows(position: LogPosition, segment: LogSegment) -> None:
    """Each segment goes on with what the same process has written, or begins; else the log is not the one that was
    read."""
    if segment.header.kind != "taken" and segment.header.epoch != position.epoch:
        raise OtherLog(segment.where, "this segment does not follow the one before it")


def _behind(position: LogPosition, segment: LogSegment, has_lost: bool) -> LogPosition:
    header = segment.header
    return LogPosition(segment.number + 1, header.epoch, header.kind == "closed", position.has_lost or has_lost)


def _apply(segment: LogSegment, connection: Connection) -> bool:
    """Give whether a result found another one of its call."""
    has_lost = False
    for statement, rows in _changes(segment):
        num_written = statement.execute(connection, rows)
        has_lost |= statement is PUT_RESULT and num_written < len(rows)
    return has_lost


def _changes(segment: LogSegment) -> Iterator[Change]:
    try:
        yield from unpack_frames(segment.frames)
    except StoreError:
        raise
    except Exception as error:  # neither library has a class above those of its failures
        raise damaged_segment(segment.where) from error
