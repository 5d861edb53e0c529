"""The normal form of values: JSON types that the store can always write and always read back.

Owns which values have one and what becomes of the others' types. Every outcome of a call takes it before its commit,
every row when it comes in, every value of a template. Never changes a value without a word: what has none is refused.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json, to_json, to_jsonable_python

from sundog.errors import error_text
from sundog.ir.values.library_values import UNKNOWN, python_value, refusal_of_value

MAX_LEVELS = 100
"""pydantic_core reads 200 levels; a row's output and a loop's value add some around a call's value."""
MAX_VALUES = 1 << 24
"""A value in which few objects stand in many places would grow without bound when it is written down."""
MAX_BYTES = 1 << 28
"""SQLite refuses values from 10**9 bytes on; a row's output holds several."""
INTEGER_BOUND = 10**4300
"""Python refuses to write and to read an integer of more digits."""
MAX_SHOWN_PATH = 60

_NOT_FINITE = {"nan": "NaN", "inf": "infinity", "-inf": "minus infinity"}

OnNotFinite = Callable[[], None]


class NoNormalForm(ValueError):
    """Raised for a value that has none; caught by whatever keeps values: rows, operators and the dispatcher.

    `place` is "the value" and the path inside it, `reason` a phrase that follows it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.keys: list[object] = []
        """From the inside out; it grows while the error passes the containers."""

    @property
    def place(self) -> str:
        path = "".join(f"[{key!r}]" for key in reversed(self.keys))
        shown = path if len(path) <= MAX_SHOWN_PATH else f"{path[:MAX_SHOWN_PATH]}..."
        return f"the value{whole_text(shown)}"

    def __str__(self) -> str:
        return f"{self.place} {self.reason}"


def normal_form(value: Any, on_not_finite: OnNotFinite | None = None) -> Any:
    """Return a copy of `value` in JSON types; NoNormalForm, a ValueError, names the path and the reason where it has
    none.

    Dates and times become ISO text, decimals and UUIDs text, bytes base64 of the standard alphabet, tuples and
    generators lists, sets lists in the order of their JSON text, dataclasses and pydantic models dicts, values of numpy
    and pandas what library_values says. NaN and the infinities are refused, or null where `on_not_finite` hears of
    each.
    """
    if _is_plain(value):
        return value
    if type(value) is dict and _is_flat(value):
        return value.copy()
    return _Walk(on_not_finite).form(value, 0)


def encode(value: Any) -> bytes:
    """Return a normal form as JSON; NoNormalForm where that is longer than MAX_BYTES."""
    body = to_json(value)
    if len(body) > MAX_BYTES:
        raise NoNormalForm(f"takes {len(body):,} bytes as JSON, and at most {MAX_BYTES:,} are kept")
    return body


def decode(body: bytes) -> Any:
    """Return what `encode` was given; ValueError for bytes that it never makes."""
    return from_json(body, allow_inf_nan=False)


def whole_text(text: str) -> str:
    """Return `text` with U+FFFD in place of each half of a surrogate pair that has no other half."""
    if text.isascii() or _is_whole(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _is_plain(value: Any) -> bool:
    """Return whether it is a value that is its own normal form and holds no other."""
    kind = type(value)
    if kind is str:
        return bool(value.isascii() or _is_whole(value))
    if kind is int:
        return bool(-INTEGER_BOUND < value < INTEGER_BOUND)
    if kind is float:
        return isfinite(value)
    return value is None or kind is bool


def _is_flat(value: dict[Any, Any]) -> bool:
    """Return whether it is a dict that is its own normal form and holds only plain values, as most answers are."""
    for key, item in value.items():
        if type(key) is not str or not (key.isascii() or _is_whole(key)) or not _is_plain(item):
            return False
    return True


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Walk:
    """One value on its way through; counts what it has seen."""

    def __init__(self, on_not_finite: OnNotFinite | None) -> None:
        self._on_not_finite = on_not_finite
        self._num_values = 0
        self._open: set[int] = set()

    def form(self, value: Any, level: int) -> Any:
        """Return the normal form of `value`, which stands `level` containers deep. NoNormalForm where it has none."""
        if _is_plain(value):
            return value
        if type(value) is dict and level < MAX_LEVELS and _is_flat(value):
            self._num_values += len(value)
            return value.copy()
        match value:
            case dict() | list():
                pass
            case Enum():
                return self.form(value.value, level)
            case str():
                return _text(value)
            case int():
                return _integer(value)
            case float():
                return self._float(value)
            case bytes() | bytearray() | memoryview():
                return b64encode(value).decode()
            case Decimal():
                return self._decimal(value)
        self._open_container(value, level)
        try:
            return self._container(value, level + 1)
        except NoNormalForm:
            raise
        except Exception as error:  # a container of the user's own runs the user's code
            raise NoNormalForm(f"cannot be read: {error_text(error)}") from error
        finally:
            self._open.discard(id(value))

    def _open_container(self, value: Any, level: int) -> None:
        if id(value) in self._open:
            raise NoNormalForm("contains itself")
        if level >= MAX_LEVELS:
            raise NoNormalForm(f"is nested more than {MAX_LEVELS} levels deep")
        self._open.add(id(value))

    def _container(self, value: Any, level: int) -> Any:
        match value:
            case dict() | Mapping():
                return self._dict(value.items(), level)
            case list() | tuple():
                return self._list(value, level)
            case set() | frozenset():
                return sorted(self._list(value, level), key=to_json)
            case BaseModel():
                return self._dict(value.model_dump(by_alias=True).items(), level)
            case Iterator():
                return self._list(value, level)
        if is_dataclass(value) and not isinstance(value, type):
            return self._dict(((one.name, getattr(value, one.name)) for one in fields(value)), level)
        return self._leaf(value, level)

    def _dict(self, items: Iterable[tuple[Any, Any]], level: int) -> dict[str, Any]:
        formed: dict[str, Any] = {}
        for key, item in items:
            self._count()
            if not isinstance(key, str):
                raise NoNormalForm(f"has the key {_shown(key)}, which is no text but of type {type(key).__name__}")
            name = key if _is_plain(key) else _text(key)
            formed[name] = item if _is_plain(item) else self._item(name, item, level)
        return formed

    def _list(self, items: Iterable[Any], level: int) -> list[Any]:
        formed: list[Any] = []
        for item in items:
            self._count()
            formed.append(item if _is_plain(item) else self._item(len(formed), item, level))
        return formed

    def _item(self, key: object, item: Any, level: int) -> Any:
        try:
            return self.form(item, level)
        except NoNormalForm as error:
            error.keys.append(key)
            raise

    def _leaf(self, value: Any, level: int) -> Any:
        """Return the form of values of numpy and pandas, then dates, UUIDs, paths and whatever else pydantic knows."""
        formed = python_value(value)
        if formed is UNKNOWN:
            try:
                formed = to_jsonable_python(value, serialize_unknown=False)
            except ValueError as error:
                raise NoNormalForm(refusal_of_value(value)) from error
        return self.form(formed, level)

    def _float(self, value: float) -> float | None:
        plain = float.__float__(value)
        if isfinite(plain):
            return plain
        self._tell_not_finite(str(plain))
        return None

    def _decimal(self, value: Decimal) -> str | None:
        if value.is_finite():
            return str(value)
        self._tell_not_finite(str(value))
        return None

    def _tell_not_finite(self, text: str) -> None:
        if self._on_not_finite is None:
            raise NoNormalForm(f"is {_NOT_FINITE.get(text.lower(), text)}, which is no JSON number")
        self._on_not_finite()

    def _count(self) -> None:
        self._num_values += 1
        if self._num_values > MAX_VALUES:
            raise NoNormalForm(f"holds more than {MAX_VALUES:,} values")


def _text(value: str) -> str:
    plain = str.__str__(value)
    if not _is_whole(plain):
        raise NoNormalForm("is text with half a surrogate pair, which is no Unicode character")
    return plain


def _integer(value: int) -> int:
    plain = int.__int__(value)
    if not -INTEGER_BOUND < plain < INTEGER_BOUND:
        raise NoNormalForm("is an integer of more than 4,300 digits")
    return plain


def _shown(key: object) -> str:
    try:
        return repr(key)[:40]
    except Exception:
        return "?"
