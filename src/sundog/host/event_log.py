"""The event log of one process's part of a run: every event of the core, in order, as compressed JSON lines.

Owns the file form: a gzip file of lines [type, field, ...], after one line with the host's facts. A process that is
killed loses only what it had not flushed. Never interprets events.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from sundog.errors import StoreError
from sundog.private_files import make_private_folder, open_private
from sundog.sched.events import EVENT_TYPES, Event, RequestArrived
from sundog.sched.facts import CallFacts

FLUSH_EVENTS = 4096
_FIELDS = {kind: attrgetter(*(one.name for one in fields(kind))) for kind in EVENT_TYPES.values()}
_FACTS = attrgetter(*(one.name for one in fields(CallFacts)))
_PLAIN = {
    "float": (float, int),
    "int": (int,),
    "str": (str,),
    "bool": (bool,),
    "None": (type(None),),
    "CallFacts": (list,),
}
_SINGLE = {kind for kind in EVENT_TYPES.values() if len(fields(kind)) == 1}


def _types(annotation: str) -> tuple[type, ...]:
    """Return the types that a field's value may have in JSON. `annotation`: as the module of the events writes it."""
    return tuple(
        one for part in annotation.split(" | ") for one in ((list,) if part.startswith("tuple") else _PLAIN[part])
    )


_TYPES = {name: [_types(str(one.type)) for one in fields(kind)] for name, kind in EVENT_TYPES.items()}


@dataclass(frozen=True, slots=True)
class LogHeader:
    """The facts that a reader needs beside the events: the policy set that acted, and when time 0 was."""

    policy: str
    started_at: str
    #: Rows that were worked on at once, at most.
    max_rows_in_flight: int


class EventLog:
    """Appends events; writes them in a thread, in blocks that are whole gzip members."""

    def __init__(self, folder: Path, policy: str, max_rows_in_flight: int) -> None:
        make_private_folder(folder)
        number = len(list(folder.glob("events-*.jsonl.gz"))) + 1
        self.path = folder / f"events-{number:04}.jsonl.gz"
        self._pending: list[Event] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sundog-log")
        self._last: Future[None] | None = None
        header = ["LogHeader", policy, datetime.now(UTC).isoformat(), max_rows_in_flight]
        self._write(json.dumps(header).encode() + b"\n")

    def append(self, event: Event) -> None:
        self._pending.append(event)
        if len(self._pending) >= FLUSH_EVENTS:
            self.flush()

    def flush(self) -> None:
        """Hand what is pending to the thread; raises StoreError if an earlier block could not be written."""
        if self._last is not None and self._last.done():
            self._last.result()
        block, self._pending = self._pending, []
        if block:
            self._last = self._thread.submit(self._encode_and_write, block)

    def close(self) -> None:
        self.flush()
        if self._last is not None:
            self._last.result()
        self._thread.shutdown()

    def _encode_and_write(self, block: list[Event]) -> None:
        self._write(b"".join(_encode(event) for event in block))

    def _write(self, data: bytes) -> None:
        try:
            with os.fdopen(open_private(self.path, os.O_WRONLY | os.O_APPEND), "ab") as file:
                file.write(gzip.compress(data, compresslevel=1, mtime=0))
        except OSError as error:
            raise StoreError(
                f"the event log cannot be written: {error.strerror}",
                where=str(self.path),
                hint="free some space and repeat the command: it continues the run",
            ) from error


def read_log(path: Path) -> tuple[LogHeader, Iterator[Event]] | None:
    """Return the header and the events of a log; a torn end (the process was killed) ends the events. None when not
    even the header was written. StoreError for a file that is damaged, or no event log."""
    lines = _lines(path)
    header = next(lines, None)
    if header is None:
        return None
    try:
        kind, *values = json.loads(header)
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, 1) from error
    if kind != "LogHeader" or list(map(type, values)) != [str, str, int]:
        raise _damaged(path, 1)
    return LogHeader(*values), _events(path, lines)


def _events(path: Path, lines: Iterator[bytes]) -> Iterator[Event]:
    for number, line in enumerate(lines, start=2):
        try:
            yield _decode(line)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _damaged(path, number) from error


def _lines(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as file:
        number = 0
        try:
            for line in file:
                number += 1
                if line.endswith(b"\n"):
                    yield line
        except (EOFError, gzip.BadGzipFile):
            return
        except zlib.error as error:
            raise _damaged(path, number + 1) from error


def _damaged(path: Path, line: int) -> StoreError:
    return StoreError(
        "the file is no event log, or damaged", where=f"{path}, line {line}", hint="give another one; a run's are whole"
    )


def _encode(event: Event) -> bytes:
    kind = type(event)
    values = _FIELDS[kind](event)
    if kind is RequestArrived:
        values = (*values[:-1], _FACTS(values[-1]))
    record = (kind.__name__, values) if kind in _SINGLE else (kind.__name__, *values)
    return to_json(record, inf_nan_mode="constants") + b"\n"


def _decode(line: bytes) -> Event:
    kind, *values = json.loads(line)
    if not all(map(isinstance, values, _TYPES[kind])):
        raise TypeError("a field has a value of another type")
    event: Any = EVENT_TYPES[kind](*(tuple(value) if isinstance(value, list) else value for value in values))
    if isinstance(event, RequestArrived):
        event.facts = CallFacts(*values[-1])
    return event  # type: ignore[no-any-return]  # EVENT_TYPES holds exactly the members of Event
