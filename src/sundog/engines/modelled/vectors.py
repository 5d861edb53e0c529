"""Vectors made from a hash of a text: equal in every process, and of the length 1.

Owns the numbers. Never looks at the meaning of a text.
"""

from __future__ import annotations

import math
from hashlib import blake2b

DEFAULT_DIMENSIONS = 8
_BYTES_PER_NUMBER = 4
_NUM_DRAWS = 2.0 ** (8 * _BYTES_PER_NUMBER)


def hashed_vector(model: str, text: str, dimensions: int | None = None) -> tuple[float, ...]:
    """Return the vector of a text.

    >>> vector = hashed_vector("null", "one", 3)
    >>> len(vector), round(sum(number * number for number in vector), 9)
    (3, 1.0)
    """
    numbers = [_number(model, text, position) for position in range(dimensions or DEFAULT_DIMENSIONS)]
    length = math.sqrt(math.fsum(number * number for number in numbers))
    return tuple(number / length for number in numbers)


def _number(model: str, text: str, position: int) -> float:
    """Return a number from -1 to 1, and never 0."""
    written = f"{model}\0{position}\0{text}".encode("utf-8", "surrogatepass")
    drawn = int.from_bytes(blake2b(written, digest_size=_BYTES_PER_NUMBER).digest(), "big")
    return (2 * drawn + 1) / _NUM_DRAWS - 1.0
