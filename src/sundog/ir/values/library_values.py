"""Values of numpy and pandas, and ranges, as what the normal form knows.

Owns which of them lose nothing on the way, and what is told of the others. Knows these libraries by the names of their
types and imports none: whoever has such a value has imported them.
"""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, ValuesView
from typing import Any, Final

UNKNOWN: Final = object()
"""The value that `python_value` gives for a value that is none of these libraries', or that would lose something."""
_MAX_EXACT_BYTES = 8
"""A number with a fraction has at most so many: Python's own float has."""
_BY_ELEMENT = "mMV"
"""Kinds of arrays whose `tolist` makes numbers of times, and tuples of records."""
_GIVERS = {
    "to_dicts": "to_dicts()",
    "to_pylist": "to_pylist()",
    "as_py": "as_py()",
    "to_list": "to_list()",
    "tolist": "tolist()",
    "to_dict": 'to_dict("records")',
}


def python_value(value: Any) -> Any:
    """Return the same value in Python's own types, one level of it; `UNKNOWN` where there is none.

    numpy's scalars become numbers and text, its arrays lists, its records dicts; what is missing (pandas' NA and NaT,
    numpy's NaT, what a mask covers) becomes None, and times keep their nanoseconds as ISO text. A range or a view of a
    dict, which has no type of JSON either, becomes an iterator.
    """
    if isinstance(value, range | KeysView | ValuesView | ItemsView):
        return iter(value)
    names = {(one.__module__, one.__name__) for one in type(value).__mro__}
    if ("numpy", "ndarray") in names:
        return _array(value)
    if ("numpy", "generic") in names:
        return _scalar(value)
    if _library_of(value) == "pandas":
        return _pandas_value(value)
    return UNKNOWN


def refusal_of_value(value: Any) -> str:
    """Return why a value that nobody knows has no form, as a phrase; with the method that gives one, where there is
    one."""
    kind = type(value)
    giver = next((shown for name, shown in _GIVERS.items() if hasattr(kind, name)), None)
    if _library_of(value) == "numpy":
        giver = None
    return f"is of type {kind.__name__}" + (f": give {giver} of it" if giver else "")


def _library_of(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _array(value: Any) -> Any:
    """Return one level of an array of times or records, the whole of any other."""
    if value.dtype.kind not in _BY_ELEMENT:
        return value.tolist()
    return list(value) if value.ndim else value[()]


def _scalar(value: Any) -> Any:
    match value.dtype.kind:
        case "M":
            return None if value.item() is None else str(value)
        case "m":
            return _duration(value)
        case "V":
            return UNKNOWN if value.dtype.names is None else dict(zip(value.dtype.names, value, strict=True))
        case "f" if value.dtype.itemsize > _MAX_EXACT_BYTES:
            exact = float(value)
            return exact if exact == value or exact != exact else UNKNOWN
    return value.item()


def _duration(value: Any) -> Any:
    """Python's own knows no nanoseconds, months and years; of those numpy gives a number."""
    found = value.item()
    if not isinstance(found, int):
        return found
    if value.dtype.name not in ("timedelta64[ns]", "timedelta64[ps]", "timedelta64[fs]", "timedelta64[as]"):
        return UNKNOWN
    rounded = value.astype("timedelta64[us]")
    return rounded.item() if rounded == value else UNKNOWN


def _pandas_value(value: Any) -> Any:
    """Python's own times, which pandas' are too, would be read without their nanoseconds."""
    match type(value).__name__:
        case "NaTType" | "NAType":
            return None
        case "Timestamp" if value.nanosecond:
            return value.isoformat()
        case "Timedelta" if value.nanoseconds:
            return value.isoformat()
    return UNKNOWN
