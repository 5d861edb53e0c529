"""The filters that the template language has beside Jinja's: they make one value of several.

Owns what they mean. What they cost is bounded as that of any filter: by what they look at.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum
from typing import Any

from jinja2 import TemplateRuntimeError

from sundog.ir.values.canonical import canonical_json
from sundog.ir.values.normal_form import normal_form


def vote(values: Iterable[Any]) -> Any:
    """Return the value that is there most often, of equally frequent ones the first; null of no values.

    >>> vote(["no", "yes", "no"]), vote([{"a": 1}, True, 1]), vote([])
    ('no', {'a': 1}, None)
    """
    found: dict[bytes, tuple[int, Any]] = {}
    for value in _elements(values, "vote"):
        # As JSON: lists and mappings are counted too, and true is not 1.
        key = canonical_json(normal_form(value))
        number, first = found.get(key, (0, value))
        found[key] = number + 1, first
    return max(found.values(), key=lambda one: one[0], default=(0, None))[1]


def mean(values: Iterable[Any]) -> float | None:
    """Return the mean of numbers; null of none.

    >>> mean([1, 2, 4.5]), mean([])
    (2.5, None)
    """
    numbers = list(_elements(values, "mean"))
    for number in numbers:
        if not isinstance(number, int | float) or isinstance(number, bool):
            raise TemplateRuntimeError(f"the mean of {type(number).__name__} is asked for, which is no number")
    return fsum(numbers) / len(numbers) if numbers else None


def _elements(values: Iterable[Any], name: str) -> Iterable[Any]:
    if isinstance(values, str | dict):
        raise TemplateRuntimeError(f"'{name}' is asked for of {type(values).__name__}, which is no list")
    return values


OWN_FILTERS = {"mean": mean, "vote": vote}
