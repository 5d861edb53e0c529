"""Positions of a flow some of whose steps were written in another one.

Owns the way from a step to its place in its own file.
"""

from __future__ import annotations

import re

from sundog.errors import Location
from sundog.flow.positions import DataPath, Positions


class IncludedPositions:
    """This class knows the flow's own positions, and for parts that were taken from elsewhere those of their file."""

    def __init__(self, own: Positions) -> None:
        self._own = own
        self._places: dict[DataPath, tuple[Positions, DataPath]] = {}

    def add(self, path: DataPath, place: DataPath, file: Positions | None = None) -> None:
        """Say that the part at `path` was written at `place` in another file; None for the flow's own."""
        self._places[path] = self._of(place) if file is None else (file, place)

    def key(self, path: DataPath) -> Location:
        positions, place = self._of(path)
        return positions.key(place)

    def value(self, path: DataPath) -> Location:
        positions, place = self._of(path)
        return positions.value(place)

    def match(self, path: DataPath, pattern: re.Pattern[str]) -> Location:
        positions, place = self._of(path)
        return positions.match(place, pattern)

    def _of(self, path: DataPath) -> tuple[Positions, DataPath]:
        for length in range(len(path), 0, -1) if self._places else ():
            found = self._places.get(path[:length])
            if found is not None:
                return found[0], (*found[1], *path[length:])
        return self._own, path
