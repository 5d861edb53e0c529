"""What the values of rows tell of a batch: how many different ones there are, and how long they are.

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
    """What is known of `num_rows` rows. `num_distinct`: by set of values, how many different combinations there are,
    within a few per cent. `num_characters`: by value, the mean length of its text."""

    num_rows: int
    num_distinct: Mapping[RowFields, float]
    num_characters: Mapping[Path, float]
