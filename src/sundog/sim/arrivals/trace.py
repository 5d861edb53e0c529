"""Trace files: which form one has, its lines as records, and what is wrong with it.

Owns the way from a file to programs that come one after the other. Memory holds a line, and a program, at a time.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic_core import from_json

from sundog.errors import InputError
from sundog.sim.arrivals.event_log_trace import EVENT_LOG, is_event_log, logged_programs
from sundog.sim.arrivals.formats import CSV_FORMATS, JSON_FORMATS
from sundog.sim.arrivals.traced import BrokenRecord, RawProgram, RecordFormat, TracedProgram, TraceFormat

BOM = b"\xef\xbb\xbf"
MEND = "mend the line, or take it out"


@dataclass(slots=True)
class Trace:
    """A trace file whose form is known."""

    path: Path
    form: TraceFormat
    #: Programs of the last reading so far that were left out: their requests failed when the trace was made.
    num_left_out: int = field(default=0, init=False)

    def programs(self) -> Iterator[TracedProgram]:
        """Yield what the file holds, in order, times from the first; InputError for a broken line, for times that run
        backwards and for a trace of nothing."""
        self.num_left_out = 0
        first_s: float | None = None
        last_s, num_read = 0.0, 0
        for raw in self._raw():
            arrives_s = None
            if raw.time_s is not None:
                first_s = raw.time_s if first_s is None else first_s
                arrives_s = raw.time_s - first_s
                if not arrives_s >= last_s:  # nor a time that is no number
                    what = f"its time is {last_s - arrives_s:g} s before that of the line before it"
                    raise _broken(self.path, raw.line, what, "sort the trace by its times")
                last_s = arrives_s
            if raw.calls:
                num_read += 1
                yield TracedProgram(raw.calls, arrives_s, raw.line)
            else:
                self.num_left_out += 1
        if not num_read:
            raise InputError("the trace holds no request", where=str(self.path), hint="give another file")

    def times_s(self) -> Iterator[float]:
        """Yield when the programs come; InputError where the trace tells no times."""
        return map(self.time_of, self.programs())

    def time_of(self, program: TracedProgram) -> float:
        """Return when one of its programs comes; InputError where the trace tells no times."""
        if program.arrives_s is None:
            raise InputError(
                f"a trace of {self.form.name} tells no times",
                where=str(self.path),
                hint="say when its programs come: with an arrival process, as poisson:0.1/s",
            )
        return program.arrives_s

    def _raw(self) -> Iterator[RawProgram]:
        form = self.form
        if not isinstance(form, RecordFormat):
            yield from logged_programs(self.path)
            return
        records = _Records(self.path, is_json=form in JSON_FORMATS)
        try:
            yield from form.read(iter(records))
        except BrokenRecord as broken:
            raise _broken(self.path, records.line, str(broken), MEND) from broken


def open_trace(path: Path) -> Trace:
    """Return the trace that a file holds, its form known by what stands in it; InputError where it has none."""
    try:
        if is_event_log(path):
            return Trace(path, EVENT_LOG)
        with path.open("rb") as file:
            first = file.readline(1 << 20).removeprefix(BOM)
    except OSError as error:
        hint = "check the path"
        raise InputError(f"the trace cannot be read: {error.strerror}", where=str(path), hint=hint) from error
    if not first.strip():
        raise InputError("the trace is empty", where=str(path), hint="give another file")
    fields, forms = _fields(path, first)
    for form in forms:
        if form.fields <= fields:
            return Trace(path, form)
    known = "; ".join(f"{one.name}: {', '.join(sorted(one.fields))}" for one in (*CSV_FORMATS, *JSON_FORMATS))
    raise _broken(path, 1, "no known form of trace has these fields", f"known are {known}")


def _fields(path: Path, first: bytes) -> tuple[frozenset[str], tuple[RecordFormat, ...]]:
    if first.lstrip().startswith(b"{"):
        return frozenset(_object(path, 1, first)), JSON_FORMATS
    return frozenset(_columns(path, 1, _text(path, 1, first))), CSV_FORMATS


class _Records:
    """The records of a file by their lines; `line` is that of the last one."""

    def __init__(self, path: Path, *, is_json: bool) -> None:
        self.line = 0
        self._path = path
        self._is_json = is_json

    def __iter__(self) -> Iterator[tuple[int, dict[str, object]]]:
        header: list[str] | None = None
        with self._path.open("rb") as file:
            for self.line, raw in enumerate(file, start=1):
                data = raw.removeprefix(BOM) if self.line == 1 else raw
                if not data.strip():
                    continue
                if self._is_json:
                    yield self.line, _object(self._path, self.line, data)
                    continue
                values = _columns(self._path, self.line, _text(self._path, self.line, data))
                if header is None:
                    header = values
                    continue
                if len(values) != len(header):
                    raise BrokenRecord(f"{len(values)} values under {len(header)} columns")
                yield self.line, dict(zip(header, values, strict=True))


def _text(path: Path, line: int, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _broken(path, line, "the line is no text in UTF-8", MEND) from error


def _columns(path: Path, line: int, text: str) -> list[str]:
    try:
        # A line at a time: no column of a trace has line ends, and an open quote must not swallow the file.
        return [value.strip() for value in next(csv.reader([text.rstrip("\r\n")], strict=True), [])]
    except csv.Error as error:
        raise _broken(path, line, f"the line is no CSV: {error}", MEND) from error


def _object(path: Path, line: int, data: bytes) -> dict[str, object]:
    try:
        value = from_json(data)
    except ValueError as error:
        raise _broken(path, line, f"the line is no JSON: {error}", MEND) from error
    if not isinstance(value, dict):
        raise _broken(path, line, "the line is no JSON object", MEND)
    return value


def _broken(path: Path, line: int, what: str, hint: str) -> InputError:
    return InputError(what, where=f"{path}:{line}", hint=hint)
