"""Positions of a flow written in Python: the lines of the calls that made it.

Owns finding the caller outside sundog. Never reads source files.
"""

from __future__ import annotations

import re
import sys
from itertools import islice
from pathlib import Path

from sundog.errors import Location
from sundog.flow.positions import DataPath

_PACKAGE = str(Path(__file__).resolve().parents[1])


class CallSites:
    """Places by path; what was not recorded has the place of what holds it."""

    def __init__(self) -> None:
        self._places: dict[DataPath, Location] = {(): caller()}

    def record(self, path: DataPath) -> Location:
        """Record the line that runs now, outside sundog, as the place where `path` was written."""
        self._places[path] = caller()
        return self._places[path]

    def key(self, path: DataPath) -> Location:
        while path not in self._places:
            path = path[:-1]
        return self._places[path]

    def value(self, path: DataPath) -> Location:
        return self.key(path)

    def match(self, path: DataPath, pattern: re.Pattern[str]) -> Location:
        return self.key(path)


def caller() -> Location:
    """Return where the innermost frame outside sundog stands."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    _, _, column, _ = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))
    return Location(frame.f_code.co_filename, frame.f_lineno, (column or 0) + 1)
