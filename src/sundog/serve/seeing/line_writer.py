"""The writing of log lines in a thread of its own, so that a server never waits for who reads its log.

Owns the lines between their making and their way to a file. A log that nobody reads loses lines, and says how many.
"""

from __future__ import annotations

import logging
import os
from queue import SimpleQueue
from threading import Event, Thread

MAX_LINES = 10_000
"""So many lines wait to be read; those that come on top are lost."""
FLUSH_S = 1.0
"""The longest wait for lines to be read when the process ends."""


class LineWriter(logging.Handler):
    """This class writes the lines of a log to an open file, as stderr."""

    def __init__(self, file_number: int, max_lines: int = MAX_LINES) -> None:
        super().__init__()
        self._file_number = file_number
        self._max_lines = max_lines
        #: An event stands for the end of all lines before it.
        self._lines: SimpleQueue[str | Event] = SimpleQueue()
        self._num_lost = 0
        Thread(target=self._write_all, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Have a line written soon; it is counted where too many wait."""
        if self._lines.qsize() >= self._max_lines:
            self._num_lost += 1
            return
        lost, self._num_lost = self._num_lost, 0
        if lost:
            self._lines.put(self.format(_lines_lost(lost)))
        self._lines.put(self.format(record))

    def flush(self) -> None:
        """Wait until the lines so far are written, but not long: perhaps nobody reads them."""
        written = Event()
        self._lines.put(written)
        written.wait(FLUSH_S)

    def _write_all(self) -> None:
        is_open = True
        while True:
            line = self._lines.get()
            if isinstance(line, Event):
                line.set()
            elif is_open:
                is_open = _is_written(self._file_number, f"{line}\n".encode("utf-8", "backslashreplace"))


def _is_written(file_number: int, data: bytes) -> bool:
    """Write all of it, and return whether the file takes more: whoever has read it may be gone."""
    while data:
        try:
            data = data[os.write(file_number, data) :]
        except OSError:
            return False
    return True


def _lines_lost(number: int) -> logging.LogRecord:
    what = "%d lines of this log are lost: nobody has read them in time"
    return logging.LogRecord("sundog.serve", logging.WARNING, __file__, 0, what, (number,), None)
