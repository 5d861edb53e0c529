"""SQL types of a table's columns, and the check that a JSON value is of one.

Owns the types that a column can have and which values fit them. A type is known before the first call, and no value is
changed to fit it: 1.5 is no BIGINT, and "7" is no number. Never talks to a database.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sundog.ir.schemas.shape import ListOf, Record, Scalar, Shape


@dataclass(frozen=True, slots=True)
class PlainType:
    """A type without parts, by its name in capitals: BIGINT, VARCHAR, JSON, DECIMAL(18,3)."""

    name: str


@dataclass(frozen=True, slots=True)
class ListType:
    """A list of any length, or of exactly `length` elements."""

    item: SQLType
    length: int | None = None


@dataclass(frozen=True, slots=True)
class StructType:
    """Named fields; one that a value lacks is null."""

    fields: tuple[tuple[str, SQLType], ...]


SQLType = PlainType | ListType | StructType

JSON, VARCHAR = PlainType("JSON"), PlainType("VARCHAR")
_OF_KIND = {"str": "VARCHAR", "int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN"}

_BITS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "HUGEINT": 128}
_WHOLE = {
    **{name: range(-(2 ** (bits - 1)), 2 ** (bits - 1)) for name, bits in _BITS.items()},
    **{f"U{name}": range(2**bits) for name, bits in _BITS.items()},
}
_FRACTIONS = frozenset({"FLOAT", "DOUBLE"})
_DATE = r"(?P<year>\d{4})-(?P<month>0[1-9]|1[0-2])-(?P<day>0[1-9]|[12]\d|3[01])"
_SECOND = r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d"
_TIME = rf"{_SECOND}(\.\d{{1,6}})?)?"
_ZONE = r"(Z|[+-]\d\d(:?\d\d)?)?"
_TIMES = {
    "DATE": re.compile(_DATE),
    "TIME": re.compile(_TIME),
    "TIMESTAMP": re.compile(rf"{_DATE}([ T]{_TIME})?"),
    "TIMESTAMP_S": re.compile(rf"{_DATE}([ T]{_SECOND})?)?"),
    "TIMESTAMP_MS": re.compile(rf"{_DATE}([ T]{_SECOND}(\.\d{{1,3}})?)?)?"),
    "TIMESTAMP_NS": re.compile(rf"{_DATE}([ T]{_SECOND}(\.\d{{1,9}})?)?)?"),
    "TIMESTAMP WITH TIME ZONE": re.compile(rf"{_DATE}([ T]{_TIME}{_ZONE})?"),
}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAX_SHOWN = 60


def sql_name(name: str) -> str:
    """Return a name as SQL takes it, whatever it is."""
    return '"' + name.replace('"', '""') + '"'


def spell_type(type: SQLType) -> str:
    """Return a type as SQL writes it, as in `STRUCT("name" VARCHAR)[]`."""
    match type:
        case PlainType(name=name):
            return name
        case ListType(item=item, length=length):
            return f"{spell_type(item)}[{'' if length is None else length}]"
        case StructType(fields=fields):
            return f"STRUCT({', '.join(f'{sql_name(name)} {spell_type(field)}' for name, field in fields)})"


def type_of_shape(shape: Shape) -> SQLType:
    """Return the type of values of a shape; JSON where the shape leaves it open."""
    match shape:
        case Scalar(kind=str() as kind):
            return PlainType(_OF_KIND[kind])
        case ListOf(item=item):
            inner = type_of_shape(item)
            return JSON if inner == JSON else ListType(inner)
        case Record(fields=fields) if fields:
            return StructType(tuple((name, type_of_shape(field)) for name, field in fields))
    return JSON


def misfit(value: Any, type: SQLType) -> str | None:
    """Return why `value` is none of `type`, as a phrase that goes on after "this column is BIGINT, and"; None where it
    is one. Null is of every type."""
    if value is None:
        return None
    match type:
        case PlainType(name=name):
            return None if _is_of(value, name) else f"{_shown(value)} is none"
        case ListType(item=item, length=length):
            if not isinstance(value, list):
                return f"{_shown(value)} is no list"
            if length is not None and len(value) != length:
                return f"this list has {len(value)} elements"
            return _first_misfit((f"element {number}", one, item) for number, one in enumerate(value, start=1))
        case StructType(fields=fields):
            if not isinstance(value, Mapping):
                return f"{_shown(value)} has no fields"
            if more := sorted(value.keys() - dict(fields).keys()):
                return f"it has a field '{more[0]}' that the type has not"
            return _first_misfit((f"'{name}'", value.get(name), field) for name, field in fields)


def _first_misfit(parts: Iterable[tuple[str, Any, SQLType]]) -> str | None:
    for place, value, type in parts:
        if found := misfit(value, type):
            return f"{found} ({place}, {spell_type(type)})"
    return None


def _is_of(value: Any, name: str) -> bool:
    if name == "JSON":
        return True
    if name == "BOOLEAN":
        return isinstance(value, bool)
    if name in _WHOLE:
        return type(value) is int and value in _WHOLE[name]
    if name in _FRACTIONS:
        return type(value) in (int, float)
    if name == "VARCHAR":
        return isinstance(value, str)
    if name in _TIMES:
        return isinstance(value, str) and _is_time(value, name)
    if found := re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", name):
        return type(value) in (int, str) and _is_decimal(str(value), int(found[1]), int(found[2]))
    return name == "UUID" and isinstance(value, str) and _UUID.fullmatch(value) is not None


def _is_time(text: str, name: str) -> bool:
    found = _TIMES[name].fullmatch(text)
    if found is None or "day" not in found.groupdict():
        return found is not None
    year, month, day = (int(found[part]) for part in ("year", "month", "day"))
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return day <= (28 + is_leap if month == 2 else 30 + (month + month // 8) % 2)


def _is_decimal(text: str, num_digits: int, num_behind: int) -> bool:
    """Return whether a number can be kept digit by digit."""
    found = re.fullmatch(r"-?0*(\d*)(?:\.(\d*?)0*)?", text)
    return found is not None and len(found[1]) <= num_digits - num_behind and len(found[2] or "") <= num_behind


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
