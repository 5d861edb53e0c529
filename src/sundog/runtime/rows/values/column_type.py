"""The Arrow type of an output column, found from its values.

Owns the rules: whole numbers and decimals together are doubles where each whole number is exact as one; a column of
nulls is text; records take the union of their fields; what fits no type is written as JSON text.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

MAX_FIELDS = 256
EXACT_IN_DOUBLE = 2**53
INT64 = range(-(2**63), 2**63)


class ColumnType:
    """The type that the values of one column, or of one place in it, have in common. Feed it all values, then ask."""

    def __init__(self) -> None:
        self._kinds: set[type] = set()
        self._least = 0
        self._greatest = 0
        self._item: ColumnType | None = None
        self._fields: dict[str, ColumnType] = {}
        self._has_many_fields = False

    def observe(self, value: Any) -> None:
        """Widen the type so that `value` fits into it; None fits into every type."""
        kind = type(value)
        if value is None:
            return
        self._kinds.add(kind)
        if kind is int:
            self._least, self._greatest = min(self._least, value), max(self._greatest, value)
        elif kind is list:
            self._item = self._item or ColumnType()
            for item in value:
                self._item.observe(item)
        elif kind is dict:
            self._observe_fields(value)

    def arrow(self) -> pa.DataType | None:
        """Return the type that holds every value as it is; None where there is none."""
        match sorted(kind.__name__ for kind in self._kinds):
            case [] | ["str"]:
                return pa.string()
            case ["bool"]:
                return pa.bool_()
            case ["int"]:
                return pa.int64() if self._least in INT64 and self._greatest in INT64 else None
            case ["float"]:
                return pa.float64()
            case ["float", "int"]:
                is_exact = max(-self._least, self._greatest) <= EXACT_IN_DOUBLE
                return pa.float64() if is_exact else None
            case ["list"]:
                item = self._item.arrow() if self._item else pa.string()
                return None if item is None else pa.list_(item)
            case ["dict"]:
                return self._struct()
        return None

    def describe(self) -> str:
        """Return why there is no type."""
        if self._has_many_fields:
            return f"more than {MAX_FIELDS} different fields"
        names = {"str": "text", "int": "whole numbers", "float": "decimals", "bool": "truth values", "dict": "records"}
        kinds = sorted(names.get(kind.__name__, "lists") for kind in self._kinds)
        if len(kinds) > 1:
            return " and ".join(kinds)
        if kinds == ["whole numbers"]:
            return "whole numbers of more than 64 bits"
        if kinds == ["records"] and not self._fields:
            return "records without fields"
        parts = [self._item] if self._item else list(self._fields.values())
        return next((part.describe() for part in parts if part.arrow() is None), "mixed values")

    def _observe_fields(self, value: dict[str, Any]) -> None:
        for name, item in value.items():
            if name not in self._fields:
                if len(self._fields) == MAX_FIELDS:
                    self._has_many_fields = True
                    continue
                self._fields[name] = ColumnType()
            self._fields[name].observe(item)

    def _struct(self) -> pa.DataType | None:
        types = [(name, type) for name, field in self._fields.items() if (type := field.arrow()) is not None]
        if not types or len(types) < len(self._fields) or self._has_many_fields:
            return None
        return pa.struct(types)
