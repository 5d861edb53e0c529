"""One log: segments with the numbers 0, 1, 2 and so on, each of which is made only if it is not there.

Owns their names and the rules by which they follow one another: whoever has made segment n knows all before it, and
a process that has lost its place finds its next number taken. No clocks, no locks. Never knows what changes mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


class OtherLog(StoreError):
    """Raised where the segments of a log do not follow those that a cache has read: it was deleted, or is damaged.
    Caught by `segments.cache`, which makes its cache anew, and as any StoreError is."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"the log is damaged: {what}", where=where, hint="use another --state: what was in it is lost")


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

    def beside(self, name: str) -> SegmentLog:
        """Return another log of the same storage."""
        return SegmentLog(self._storage, name)

    def numbers(self, first: int) -> list[int]:
        """Return the numbers of the segments from one on. OtherLog where the one before it is gone, or one between
        them."""
        # The last one that is known has to be there still.
        known = max(first - 1, 0)
        after = self._object(known - 1) if known else ""
        numbers = sorted(self._number(name) for name in self._storage.names(f"{LOGS}/{self.name}", after))
        if first and not numbers:
            raise self._lacks(known + 1)
        for place, number in enumerate(numbers, known):
            if number != place:
                raise self._lacks(number)
        return [number for number in numbers if number >= first]

    def segments(self, numbers: Sequence[int]) -> Iterator[LogSegment]:
        """Yield segments that are there."""
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

    def _lacks(self, number: int) -> OtherLog:
        where = f"{self._storage.url}/{LOGS}/{self.name}"
        return OtherLog(where, f"a segment before number {number} is missing")

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
