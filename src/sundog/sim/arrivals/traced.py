"""The parts of a trace: programs of calls, whatever file they come from.

Owns these records, and what no reader lets through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite

MAX_TOKENS = 100_000_000
"""The tokens that no request has: a number above this is a broken one."""


class BrokenRecord(Exception):
    """Raised for a record of a trace that says nothing usable; caught by the reader of the file, which knows the line.

    `str` of it is one sentence.
    """


@dataclass(frozen=True, slots=True)
class TracedCall:
    """One request to an engine."""

    num_prompt_tokens: int
    num_output_tokens: int
    #: A key for each full block of the prompt, that stands for all text up to its end; empty where nobody knows.
    blocks: tuple[int, ...] = ()
    #: Seconds of what runs between this call and the program's next one; None for nothing.
    tool_s: float | None = None


@dataclass(frozen=True, slots=True)
class TracedProgram:
    """Calls of which each waits for the one before it; most traces know single requests only."""

    calls: tuple[TracedCall, ...]
    #: Seconds since the trace's first one; None where the trace tells no times that belong together.
    arrives_s: float | None
    #: Line of the file in which it begins.
    line: int


@dataclass(frozen=True, slots=True)
class RawProgram:
    """A program as the file has it, its time on the file's own clock; None where it has none."""

    time_s: float | None
    calls: tuple[TracedCall, ...]
    line: int


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """A form of traces."""

    name: str
    #: Tokens of a block of `TracedCall.blocks`; None where the form has none.
    block_tokens: int | None


@dataclass(frozen=True, slots=True)
class RecordFormat(TraceFormat):
    """A form of a record a line."""

    #: Columns, or fields, by which it is known.
    fields: frozenset[str]
    #: Gives the programs of numbered records; one without calls is left out and counted. BrokenRecord.
    read: Callable[[Iterator[tuple[int, dict[str, object]]]], Iterator[RawProgram]]


def tokens_of(record: dict[str, object], field: str, least: int = 0) -> int:
    """Return a number of tokens; BrokenRecord for anything else."""
    number = number_of(record, field)
    if not number.is_integer() or not least <= number <= MAX_TOKENS:
        raise BrokenRecord(f"'{field}' is no number of tokens from {least} on: {_shown(record[field])}")
    return int(number)


def number_of(record: dict[str, object], field: str) -> float:
    """Return a finite number that is not negative; BrokenRecord for anything else."""
    value = record.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BrokenRecord(f"'{field}' is no number: {_shown(value)}")
    try:
        number = float(value)
    except (ValueError, OverflowError) as error:
        raise BrokenRecord(f"'{field}' is no number: {_shown(value)}") from error
    if not isfinite(number) or number < 0:
        raise BrokenRecord(f"'{field}' is no number from 0 on: {_shown(value)}")
    return number


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
