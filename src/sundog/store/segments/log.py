"""One log: segments with the numbers 0, 1, 2 and so on, each of which is made only if it is not there.

Owns their names and the rules by which they follow one another: whoever has made segment n knows all before it, and
a process that has lost its place finds its next number taken. No clocks, no locks. Never knows what changes mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sundog.errors import StoreError
from sundog.store.segments.segment import SegmentHeader, pack_segment, unpack_segment
from sundog.store.segments.storage import ObjectStorage

LOGS = "log"
_NUM_DIGITS = 10
_NUM_FETCHED_AHEAD = 16


@dataclass(frozen=True, slots=True)
class LogSegment:
    """A segment of a log."""

    number: int
    header: SegmentHeader
    frames: memoryview
    #: Its address, for messages.
    where: str


class SegmentLog:
    """The log of one name in a storage."""

    def __init__(self, storage: ObjectStorage, name: str) -> None:
        self.name = name
        self._storage = storage

    def create(self, number: int, header: SegmentHeader, frames: bytes = b"") -> bool:
        """Make the segment of a number; gives False where another one has it. All before it must be there. A request
        that failed may have made it: then the next try gives True, since it finds its own bytes."""
        body = pack_segment(header, frames)
        if self._storage.create(self._object(number), body):
            return True
        return self._storage.read(self._object(number)) == body

    def segment(self, number: int) -> LogSegment | None:
        """Return the segment of a number; None where there is none yet."""
        body = self._storage.read(self._object(number))
        return None if body is None else self._unpacked(number, body)

    def segments(self, first: int) -> Iterator[LogSegment]:
        """Yield the segments from a number on. StoreError where one is missing between them."""
        after = self._object(first - 1) if first else ""
        numbers = sorted(self._number(name) for name in self._storage.names(f"{LOGS}/{self.name}", after))
        if numbers != list(range(first, first + len(numbers))):
            missing = next(number for place, number in enumerate(numbers, first) if number != place)
            raise StoreError(
                f"the log is damaged: a segment before number {missing} is missing",
                where=f"{self._storage.url}/{LOGS}/{self.name}",
                hint="use another --state: what was in it is lost",
            )
        with ThreadPoolExecutor(_NUM_FETCHED_AHEAD) as pool:
            for begin in range(0, len(numbers), _NUM_FETCHED_AHEAD):
                for found in pool.map(self.segment, numbers[begin : begin + _NUM_FETCHED_AHEAD]):
                    assert found is not None, "it was listed"
                    yield found

    def tell_alive(self, body: bytes) -> None:
        """Put down the sign of life of whoever writes here."""
        self._storage.replace(f"alive/{self.name}", body)

    def sign_of_life(self) -> bytes | None:
        """Return the last sign of life; None where there was none."""
        return self._storage.read(f"alive/{self.name}")

    def _unpacked(self, number: int, body: bytes) -> LogSegment:
        where = f"{self._storage.url}/{self._object(number)}"
        header, frames = unpack_segment(body, where)
        return LogSegment(number, header, frames, where)

    def _object(self, number: int) -> str:
        return f"{LOGS}/{self.name}/{number:0{_NUM_DIGITS}}"

    def _number(self, name: str) -> int:
        return int(name.rpartition("/")[2])


def log_names(storage: ObjectStorage) -> list[str]:
    """Return the names of all logs of a storage."""
    return sorted(folder.rstrip("/").rpartition("/")[2] for folder in storage.folders(LOGS))
