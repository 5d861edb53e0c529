"""The numbers that a batch's rows tell: how many different values there are, and how long they are.

Owns the numbers. Never reads rows: runtime.rows counts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sundog.ir.templates.template import Path

RowFields = frozenset[Path]
"""Values of a row, by their paths."""


@dataclass(frozen=True, slots=True)
class RowStatistics:
    """The numbers that are known of `num_rows` rows."""

    num_rows: int
    #: By set of values, the number of different combinations, within a few per cent.
    num_distinct: Mapping[RowFields, float]
    #: By value, the mean length of its text.
    num_characters: Mapping[Path, float]
