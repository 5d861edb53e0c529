"""The rows of a result on their way from the driver: how many there may be, how large, and in which form.

Owns the refusal of results that are too many or too large, and the JSON forms of their values. Never runs a statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sundog.errors import OperatorError
from sundog.ir.values.normal_form import NoNormalForm, normal_form

SQLRow = dict[str, Any]
NUM_BYTES_OF_A_NUMBER = 8


def take_rows(
    fetch: Callable[[int], Sequence[Sequence[Any]]], max_rows: int, max_bytes: int | None
) -> list[Sequence[Any]]:
    """Return all rows that `fetch` gives, at most so many at once as it is asked for; OperatorError where they are too
    many, or together too large."""
    if max_bytes is None:
        found = list(fetch(max_rows + 1))
    else:
        # One by one: a few long values are more than the memory holds.
        found, num_bytes = [], 0
        while len(found) <= max_rows and (rows := fetch(1)):
            found += rows
            num_bytes += sum(num_bytes_of(value) for row in rows for value in row)
            if num_bytes > max_bytes:
                raise gave_too_many_bytes(max_bytes)
    if len(found) > max_rows:
        raise gave_too_many_rows(max_rows)
    return found


def check_names(names: Sequence[str]) -> None:
    """Raise OperatorError where two columns have one name."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise OperatorError(f"two columns are called '{twice[0]}'", hint="name them apart in the query with AS")


def to_row(names: Sequence[str], row: Iterable[Any], raw_column: str | None = None) -> SQLRow:
    """Return the values by name, in their JSON forms but for `raw_column`; OperatorError where one has none."""
    values: SQLRow = {}
    for name, value in zip(names, row, strict=True):
        try:
            values[name] = value if name == raw_column else normal_form(value)
        except NoNormalForm as error:
            raise OperatorError(
                f"the column '{name}' has no JSON form: {error}",
                hint="cast it to text in the query",
            ) from error
    return values


def num_bytes_of(value: Any) -> int:
    """Return about how much memory a value of a driver takes."""
    num_bytes, left = 0, [value]
    while left:
        match left.pop():
            case str() | bytes() | bytearray() | memoryview() as long:
                num_bytes += len(long)
            case dict() as mapping:
                left += [*mapping.keys(), *mapping.values()]
            case list() | tuple() as items:
                left += items
            case _:
                num_bytes += NUM_BYTES_OF_A_NUMBER
    return num_bytes


def gave_too_many_rows(max_rows: int) -> OperatorError:
    """Return the failure of a statement that gives more rows than its step takes."""
    return OperatorError(f"the query gave more than {max_rows} rows", hint="narrow it or raise max_rows of the step")


def gave_too_many_bytes(max_bytes: int) -> OperatorError:
    """Return the failure of a statement whose values are too long."""
    hint = "select fewer rows and columns, or a part of a long value, as by substr(x, 1, 1000)"
    return OperatorError(f"the query gave more than {max_bytes:,} bytes", hint=hint)
