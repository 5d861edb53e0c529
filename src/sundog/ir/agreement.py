"""Agreement of two engines on a sample: how much of it shows that they agree on all rows, and a plan's cascades.

Owns the bound, which is exact for any size of a sample, and the names of the columns that hold what a sample showed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, lgamma, log

from sundog.ir.logical import LogicalPlan

LEVEL = 0.05
"""The chance of being wrong: what is shown is shown at 95 % confidence."""
AGREEMENT, TOGETHER = "cascade__agreement", "together__agreement"
NUM_ALONE = 59
"""Pairs that are judged alone as well where several stand in a prompt."""
_STEPS = 60


def at_least(num: int, num_agreed: int, share: float) -> float:
    """Return the chance that `num_agreed` or more of `num` agree where `share` of all do, above 0 and below 1."""
    total = 0.0
    for number in range(num_agreed, num + 1):
        ways = lgamma(num + 1) - lgamma(number + 1) - lgamma(num - number + 1)
        total += exp(ways + number * log(share) + (num - number) * log(1 - share))
    return min(total, 1.0)


def least_agreed(num: int, share: float) -> int | None:
    """Return how many of `num` must agree to show that more than `share` of all do; None where even all do not.

    >>> least_agreed(59, 0.95), least_agreed(58, 0.95), least_agreed(200, 0.95)
    (59, None, 196)
    """
    low, high = 0, num + 1
    while low < high:
        middle = (low + high) // 2
        if middle <= num and at_least(num, middle, share) > LEVEL:
            low = middle + 1
        else:
            high = middle
    return low if low <= num else None


def shown_share(num: int, num_agreed: int) -> float:
    """Return the share of all of which `num_agreed` of `num` show that it agrees, at least.

    >>> round(shown_share(59, 59), 4), round(shown_share(59, 55), 3), shown_share(10, 0)
    (0.9505, 0.852, 0.0)
    """
    low, high = 0.0, 1.0
    for _ in range(_STEPS if num_agreed else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if at_least(num, num_agreed, middle) <= LEVEL else (low, middle)
    return low


def counted_agreement(cheap: str, dear: str) -> str:
    """Return the SQL of a struct that tells how often the verdicts `cheap` and `dear` are equal."""
    counts = {
        "num": "count(*)",
        "num_agreed": f"count(*) filter (where {cheap} = {dear})",
        "num_yes": f"count(*) filter (where {dear})",
        "num_yes_agreed": f"count(*) filter (where {cheap} and {dear})",
    }
    fields = ", ".join(f"'{key}': {value}" for key, value in counts.items())
    return f"{{{fields}}}"


@dataclass(frozen=True, slots=True)
class Together:
    """Pairs of a plan that are judged several in a prompt."""

    #: The table whose pairs are judged.
    table: str
    num_rows: int

    @property
    def agreed(self) -> str:
        """The table of one row with what the sample showed."""
        return f"{self.table}__agreed"


def together_of(plan: LogicalPlan) -> Iterator[Together]:
    """Yield what a plan, as it was written, judges together."""
    for table in plan.tables:
        said = {name: template.source for name, template in table.outputs}
        if table.made_by is not None and TOGETHER in said:
            yield Together(table.name.removesuffix("__agreed"), int(said["together__num_rows"]))


@dataclass(frozen=True, slots=True)
class Cascade:
    """A cascade of a plan."""

    #: The table whose pairs are judged.
    table: str
    small: str
    large: str
    num_sampled: int
    agree: float

    @property
    def agreed(self) -> str:
        """The table of one row with what the sample showed."""
        return f"{self.table}__agreed"

    @property
    def judged(self) -> str:
        """The table of all pairs."""
        return f"{self.table}__judged"


def cascades_of(plan: LogicalPlan) -> Iterator[Cascade]:
    """Yield the cascades of a plan as it was written."""
    for table in plan.tables:
        said = {name: template.source for name, template in table.outputs}
        if table.made_by is not None and AGREEMENT in said:
            name = table.name.removesuffix("__agreed")
            small, large = said["cascade__small"], said["cascade__large"]
            yield Cascade(name, small, large, int(said["cascade__sample"]), float(said["cascade__agree"]))
