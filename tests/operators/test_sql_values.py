"""Numbers of a database's JSON, digit by digit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sundog.operators.sql.values import exact_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[0.1, 1.50, 2, 1e2]", [0.1, 1.5, 2, 100.0]),
        ("0.10000000000000000001", Decimal("0.10000000000000000001")),
        ("1e400", Decimal("1e400")),
        (b"9007199254740993.0", Decimal("9007199254740993.0")),
    ],
)
def test_a_number_that_no_double_holds_stays_as_it_is_written(text: str | bytes, value: Any) -> None:
    found = exact_json(text)
    assert (found, type(found)) == (value, type(value))
