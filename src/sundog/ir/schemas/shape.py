"""The shape of a step's value: enough to find a wrong reference before anything runs.

Owns shapes and the check of a path against one. Never holds data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sundog.errors import suggest

ScalarKind = Literal["str", "int", "float", "bool"]


@dataclass(frozen=True, slots=True)
class Anything:
    """A value whose form is not known before the run."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """Text, a number, a truth value or null: it has no fields."""

    #: None where it may be any of them; two shapes that differ in nothing else let templates read the same.
    kind: ScalarKind | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Record:
    """Named fields, and no others."""

    fields: tuple[tuple[str, Shape], ...]
    #: Values that templates may read beside the fields, and that are no part of the value.
    beside: tuple[tuple[str, Shape], ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, **fields: Shape) -> Record:
        return cls(tuple(fields.items()))


@dataclass(frozen=True, slots=True)
class ListOf:
    """Any number of elements of one shape."""

    item: Shape


Shape = Anything | Scalar | Record | ListOf

_MAPPING_METHODS = frozenset({"get", "items", "keys", "values"})


def find_path_mistake(shape: Shape, path: tuple[str, ...], holder: str) -> tuple[str, str] | None:
    """Return what is wrong with reading `path` from a value of `shape`, and a hint; None when it may be right."""
    if not path:
        return None
    key, rest = path[0], path[1:]
    match shape:
        case Record(fields=fields, beside=beside):
            known = dict((*fields, *beside))
            if key in known:
                return find_path_mistake(known[key], rest, f"{holder}.{key}")
            if key in _MAPPING_METHODS:
                return None
            return f"'{holder}' has no field '{key}'", suggest(key, known)
        case ListOf(item=item):
            if key.isdigit():
                return find_path_mistake(item, rest, f"{holder}[{key}]")
            return f"'{holder}' is a list and has no field '{key}'", f"take an element: {holder}[0].{key}"
    return None
