"""The check of a batch before it begins: every line is right, or it fails as a whole.

Owns the limits of a batch. What makes a line right is wire.batches.lines' affair.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

from sundog.serve.batches.reading import RawLine, line_pages
from sundog.serve.wire.batches.lines import MAX_LINE_BYTES, LineRules, checked_line, line_error
from sundog.serve.wire.errors import Refusal

MAX_LINES = 1_000_000
MAX_ERRORS = 100


class LineCheck:
    """This class counts the lines of a file and gathers what is wrong with them."""

    def __init__(self, rules: LineRules, max_lines: int = MAX_LINES) -> None:
        self._rules = rules
        self._max_lines = max_lines
        self.num_lines = 0
        #: At most MAX_ERRORS, as clients read them.
        self.errors: list[dict[str, Any]] = []

    async def read(self, path: Path) -> None:
        """Look at all lines, in a thread; at no more of them once there are too many, or too many errors."""
        # On the disk, so that ids take no memory: SQLite makes a file without a name, and forgets it.
        with closing(sqlite3.connect("", isolation_level=None, check_same_thread=False)) as seen:
            seen.execute("create table ids (digest blob primary key, number integer) without rowid")
            seen.execute("begin")
            async for page in line_pages(path):
                await asyncio.to_thread(self._look_at, page, seen)
                if self._is_enough:
                    break
        if not self.num_lines and not self.errors:
            what = "the file has no lines"
            self.errors.append(line_error(Refusal(400, what, param="input_file_id", code="empty_file"), None))

    @property
    def _is_enough(self) -> bool:
        return self.num_lines > self._max_lines or len(self.errors) >= MAX_ERRORS

    def _look_at(self, page: list[RawLine], seen: sqlite3.Connection) -> None:
        for refusal, number in self._wrong(page, seen):
            self.errors.append(line_error(refusal, number))
            if self._is_enough:
                return

    def _wrong(self, page: list[RawLine], seen: sqlite3.Connection) -> Iterator[tuple[Refusal, int | None]]:
        for line in page:
            self.num_lines += 1
            if self.num_lines > self._max_lines:
                what = f"the file has more than the {self._max_lines:,} lines that a batch may have"
                yield Refusal(400, what, param="input_file_id", code="too_many_lines"), None
                return
            try:
                self._look_at_line(line, seen)
            except Refusal as refusal:
                yield refusal, line.number

    def _look_at_line(self, line: RawLine, seen: sqlite3.Connection) -> None:
        if line.is_too_long:
            raise Refusal(400, f"the line is longer than {MAX_LINE_BYTES:,} bytes", code="line_too_long")
        custom_id = checked_line(line.raw, self._rules)
        digest = blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        put = "insert or ignore into ids values (?, ?)"
        if not seen.execute(put, (digest, line.number)).rowcount:
            ((first,),) = seen.execute("select number from ids where digest = ?", (digest,))
            what = f"custom_id: line {first} has it too"
            raise Refusal(400, what, param="custom_id", code="duplicate_custom_id")
