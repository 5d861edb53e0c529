"""SQL types of columns: their spelling, what shapes become, and which values fit."""

from __future__ import annotations

from typing import Any

import pytest

from sundog.ir.schemas.output_schema import OutputSchema
from sundog.ir.schemas.shape import Anything, Shape
from sundog.ir.sql_types import JSON, ListType, PlainType, SQLType, StructType, misfit, spell_type, type_of_shape

BIGINT, DOUBLE, TEXT = PlainType("BIGINT"), PlainType("DOUBLE"), PlainType("VARCHAR")
PERSON = StructType((("name", TEXT), ("age", BIGINT)))


def shape_of(**fields: Any) -> Shape:
    return OutputSchema.of(fields).shape


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (shape_of(a="str", b="int"), 'STRUCT("a" VARCHAR, "b" BIGINT)'),
        (shape_of(a=[{"n": "str", "mg": "float"}]), 'STRUCT("a" STRUCT("n" VARCHAR, "mg" DOUBLE)[])'),
        (shape_of(a="list[list[bool]]"), 'STRUCT("a" BOOLEAN[][])'),
        (shape_of(a=["low", "high"]), 'STRUCT("a" VARCHAR)'),
        (shape_of(a=["low", 3]), 'STRUCT("a" JSON)'),
        (Anything(), "JSON"),
    ],
)
def test_a_shape_has_a_type(shape: Shape, text: str) -> None:
    assert spell_type(type_of_shape(shape)) == text


@pytest.mark.parametrize(
    ("type", "value"),
    [
        (BIGINT, 3), (BIGINT, None), (DOUBLE, 3), (DOUBLE, 1.5), (TEXT, ""), (PlainType("BOOLEAN"), False),
        (JSON, {"a": [1]}), (ListType(BIGINT), []), (ListType(DOUBLE, 2), [1, 2.5]), (PERSON, {"name": "x", "age": 1}),
        (PERSON, {"name": "x"}), (PlainType("DATE"), "2024-02-29"), (PlainType("TIMESTAMP"), "2024-02-29 03:04:05.5"),
        (PlainType("DECIMAL(5,2)"), "123.450"), (PlainType("DECIMAL(5,2)"), 7), (PlainType("TINYINT"), -128),
        (PlainType("DATE"), "2024-12-31"), (PlainType("DATE"), "2000-02-29"), (PlainType("TIME"), "23:59:59"),
        (PlainType("TIMESTAMP"), "2024-07-31T01:02:03"), (PlainType("TIMESTAMP_S"), "2024-07-31T01:02:03"),
        (PlainType("TIMESTAMP_NS"), "2024-07-31T01:02:03.123456789"), (PlainType("UTINYINT"), 255),
        (PlainType("UBIGINT"), 2**64 - 1), (PlainType("UHUGEINT"), 2**128 - 1),
        (PlainType("TIMESTAMP WITH TIME ZONE"), "2024-01-01 00:00:00+00"),
        (PlainType("UUID"), "00000000-0000-0000-0000-00000000000f"),
    ],
)  # fmt: skip
def test_a_value_fits(type: SQLType, value: Any) -> None:
    assert misfit(value, type) is None


@pytest.mark.parametrize(
    ("type", "value", "reason"),
    [
        (BIGINT, 1.5, "1.5 is none"),
        (BIGINT, 1.0, "1.0 is none"),
        (BIGINT, True, "True is none"),
        (BIGINT, "7", "'7' is none"),
        (BIGINT, 2**63, "9223372036854775808 is none"),
        (DOUBLE, "1.5", "'1.5' is none"),
        (TEXT, 3, "3 is none"),
        (PlainType("BOOLEAN"), 0, "0 is none"),
        (PlainType("TINYINT"), 128, "128 is none"),
        (PlainType("UTINYINT"), 256, "256 is none"),
        (PlainType("UBIGINT"), -1, "-1 is none"),
        (PlainType("TIMESTAMP_MS"), "2024-01-01T00:00:00.1234", "'2024-01-01T00:00:00.1234' is none"),
        (PlainType("DATE"), "yesterday", "'yesterday' is none"),
        (PlainType("DATE"), "2023-02-29", "'2023-02-29' is none"),
        (PlainType("DATE"), "2024-06-31", "'2024-06-31' is none"),
        (PlainType("TIME"), "24:00:00", "'24:00:00' is none"),
        (PlainType("TIMESTAMP"), "2024-02-29 25:00", "'2024-02-29 25:00' is none"),
        (PlainType("DECIMAL(5,2)"), "1234.5", "'1234.5' is none"),
        (PlainType("DECIMAL(5,2)"), "1.505", "'1.505' is none"),
        (PlainType("UUID"), "x", "'x' is none"),
        (ListType(BIGINT), {"a": 1}, "{'a': 1} is no list"),
        (ListType(BIGINT), [1, 2.5], "2.5 is none (element 2, BIGINT)"),
        (ListType(DOUBLE, 3), [1, 2], "this list has 2 elements"),
        (PERSON, [1], "[1] has no fields"),
        (PERSON, {"name": "x", "sex": 1}, "it has a field 'sex' that the type has not"),
        (ListType(PERSON), [{"name": "x", "age": "old"}], "'old' is none ('age', BIGINT) (element 1, "
         'STRUCT("name" VARCHAR, "age" BIGINT))'),
    ],
)  # fmt: skip
def test_a_misfit_is_told_by_its_place(type: SQLType, value: Any, reason: str) -> None:
    assert misfit(value, type) == reason
