"""A sample of rows that is bounded by its characters.

Owns the choice and the count. Never reads rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sundog.execution.input_row import InputRow

OTHER_CHARACTERS = 8
"""A number, a truth value or null counts as so many."""


def evenly_picked(rows: Iterable[tuple[int, InputRow]], max_characters: int) -> list[tuple[int, InputRow]]:
    """Return every row, or every second, every fourth and so on: the most that have no more than `max_characters`, and
    the first row at least. No more than twice as much is held meanwhile, but for one row."""
    kept: list[tuple[int, tuple[int, InputRow]]] = []
    step, num_characters = 1, 0
    for place, numbered in enumerate(rows):
        if place % step:
            continue
        kept.append((characters_of(numbered[1]), numbered))
        num_characters += kept[-1][0]
        while num_characters > max_characters and len(kept) > 1:
            kept, step = kept[::2], 2 * step
            num_characters = sum(size for size, _ in kept)
    return [numbered for _, numbered in kept]


def characters_of(value: Any) -> int:
    """Return how many characters a JSON value has, its keys and marks left out."""
    num_characters, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            num_characters += len(one)
        elif isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list):
            left += one
        else:
            num_characters += OTHER_CHARACTERS
    return num_characters
