"""The delays of the scripted answers: each request has its own, which both its server and its load know by its number.

Owns their spread, continuous within SPREAD of the mean and drawn with a seed, so that answers do not come in step, and
all arms have the same delays. Never waits.
"""

from __future__ import annotations

import argparse
import random
import re
from dataclasses import dataclass, fields

SPREAD = (0.8, 1.2)
"""The least and the greatest delay, as parts of the mean."""
NUM_DELAYS = 4096
"""Each run of so many requests has the same delays."""
NUM_CHUNKS = 64
"""The chunks of a stream; its end is one piece more."""
DEFAULT_SEED = 1
_NUMBER = re.compile(rb'"content"\s*:\s*"(\d+): ')


@dataclass(frozen=True, slots=True)
class Delays:
    """The delays of one server."""

    #: The mean of a whole answer, in seconds.
    whole_s: float
    #: The mean of a stream's first piece, and of the time between two pieces.
    first_s: float
    gap_s: float
    seed: int = DEFAULT_SEED

    def mean_s(self, *, is_streamed: bool) -> float:
        """Return the mean time of an answer, to its end."""
        return self.first_s + NUM_CHUNKS * self.gap_s if is_streamed else self.whole_s

    def parts(self) -> list[float]:
        """Return NUM_DELAYS delays as parts of their mean, which is 1: evenly spread, in an order that the seed tells.

        >>> parts = Delays(1.0, 1.0, 1.0).parts()
        >>> round(sum(parts) / len(parts), 9), len(set(parts)), min(parts) > 0.8, max(parts) < 1.2
        (1.0, 4096, True, True)
        """
        least, greatest = SPREAD
        parts = [least + (greatest - least) * (place + 0.5) / NUM_DELAYS for place in range(NUM_DELAYS)]
        random.Random(self.seed).shuffle(parts)
        return parts

    def arguments(self) -> list[str]:
        """Return the options of a command that `of_arguments` reads."""
        return [word for one in fields(self) for word in (_option(one.name), str(getattr(self, one.name)))]


def add_delay_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of delays, in seconds, to a command."""
    for name in ("whole_s", "first_s", "gap_s"):
        parser.add_argument(_option(name), type=float, required=True)
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)


def of_arguments(given: argparse.Namespace) -> Delays:
    """Return the delays that a command is given."""
    return Delays(given.whole_s, given.first_s, given.gap_s, given.seed)


def number_of(body: bytes) -> int | None:
    """Return the number of a request, with which one of its messages begins; None where none does.

    >>> number_of(b'{"messages": [{"role": "user", "content": "17: Say a word"}]}'), number_of(b"{}")
    (17, None)
    """
    found = _NUMBER.search(body)
    return None if found is None else int(found.group(1))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
