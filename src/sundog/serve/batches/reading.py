"""The lines of a file, read a few at a time.

Owns how much of a file is in memory. Never knows what a line means.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sundog.serve.wire.batches.lines import MAX_LINE_BYTES
from sundog.serve.wire.errors import Refusal

NUM_LINES_OF_PAGE = 256
PAGE_BYTES = 2**20
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class RawLine:
    """One line that is not empty."""

    #: Its number in the file, from 1.
    number: int
    raw: bytes
    is_too_long: bool = False


async def line_pages(path: Path) -> AsyncGenerator[list[RawLine], None]:
    """Yield the lines of a file, those of one page at a time; Refusal where it cannot be read. The file is read in a
    thread."""
    offset = number = 0
    while True:
        try:
            page, offset, number = await asyncio.to_thread(_page, path, offset, number)
        except OSError as error:
            what = f"the file '{path.name}' cannot be read any more: {error.strerror}"
            raise Refusal(404, what, param="input_file_id", code="file_not_readable", is_final=True) from error
        if not page:
            return
        yield page


def _page(path: Path, offset: int, number: int) -> tuple[list[RawLine], int, int]:
    """Return the next lines behind a place, with the offset and the number of the last one; no lines at the end."""
    lines: list[RawLine] = []
    num_bytes = 0
    with path.open("rb") as file:
        file.seek(offset)
        # However many empty lines there are, a page without a line is the end of the file.
        while not lines or (len(lines) < NUM_LINES_OF_PAGE and num_bytes < PAGE_BYTES):
            raw = file.readline(MAX_LINE_BYTES + 1)
            if not raw:
                break
            number += 1
            is_too_long = len(raw) > MAX_LINE_BYTES and not raw.endswith(b"\n")
            if is_too_long:
                _skip_line(file)
                raw = b""
            text = raw.removeprefix(BOM).strip() if number == 1 else raw.strip()
            if text or is_too_long:
                lines.append(RawLine(number, text, is_too_long))
            num_bytes += len(raw)
        return lines, file.tell(), number


def _skip_line(file: BinaryIO) -> None:
    while (piece := file.readline(2**20)) and not piece.endswith(b"\n"):
        """The rest of the line is of no use."""
