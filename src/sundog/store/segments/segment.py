"""A segment: one object of a log, with what it says and who wrote it.

Owns its form: a line of JSON, then frames.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ValidationError

from sundog.errors import StoreError
from sundog.store.schema import STORE_VERSION

SegmentKind = Literal["taken", "changes", "closed"]


class SegmentHeader(BaseModel, frozen=True):
    """The line that a segment begins with."""

    #: `taken`: a process begins to write here, and those before it write no more. `closed`: it has stopped, and
    #: nothing of it is missing.
    kind: SegmentKind
    #: The process's time with this log, a random name.
    epoch: str
    #: The number of the last commit that it holds, as the cache that sent it counts.
    last_commit: int = 0
    #: The form of the store that its changes are written for.
    form: int = STORE_VERSION
    #: The machine and process, for messages.
    writer: str = ""
    #: Logs that the process had read, up to the segment before a number, when it took this one: what it writes may
    #: change what they say, and so comes after it wherever both are read.
    after: dict[str, int] = {}


def pack_segment(header: SegmentHeader, frames: bytes = b"") -> bytes:
    """Return a segment as bytes."""
    return header.model_dump_json().encode() + b"\n" + frames


def unpack_segment(body: bytes, where: str) -> tuple[SegmentHeader, memoryview]:
    """Return what a segment tells, and its frames. StoreError where it is damaged or of another form."""
    line, _, _ = body.partition(b"\n")
    try:
        header = SegmentHeader.model_validate_json(line)
    except ValidationError as error:
        raise damaged_segment(where) from error
    if header.form != STORE_VERSION:
        raise StoreError(
            f"the log has form {header.form}, this sundog reads form {STORE_VERSION}",
            where=where,
            hint="use another --state, or the sundog version that wrote it",
        )
    return header, memoryview(body)[len(line) + 1 :]


def damaged_segment(where: str) -> StoreError:
    return StoreError("the log is damaged: this object is no segment", where=where, hint="use another --state")
