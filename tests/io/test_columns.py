"""Inputs of which only some columns are wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sundog.errors import InputError
from sundog.ir.logical import InputSource
from sundog.ir.schemas.shape import Record, Scalar
from sundog.runtime.rows.formats import csv_table
from sundog.runtime.rows.inputs import RowSource

NAMES = ["rows.csv", "rows.jsonl", "rows.parquet"]


@pytest.fixture(autouse=True)
def files(put: Callable[[str, str], Path], tmp_path: Path) -> None:
    put("rows.csv", "a,b,c,d\n1,x,10,3\n2,y,20,4\n")
    put("rows.jsonl", '{"a": 1, "b": "x", "c": 10, "d": 3}\n{"c": 20, "d": 4, "b": "y"}\n')
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", "y"], "c": [10, 20], "d": [3, 4]}), tmp_path / "rows.parquet")


@pytest.mark.parametrize("name", NAMES)
def test_rows_have_the_wanted_columns_only(
    open_at: Callable[..., RowSource], read: Callable[..., list[Any]], name: str
) -> None:
    source = InputSource("rows", path=name, columns=("b", "d"))
    assert read(source) == [{"b": "x", "d": 3}, {"b": "y", "d": 4}]
    assert open_at(source).shape == Record.of(a=Scalar(), b=Scalar(), c=Scalar(), d=Scalar())
    assert open_at(source).content_identity() == open_at(InputSource("rows", path=name)).content_identity()


@pytest.mark.parametrize("name", NAMES)
def test_joined_rows_too(read: Callable[..., list[Any]], name: str) -> None:
    driver = InputSource("orders", query="select 20 as code, 'n' as note, 7 as id", columns=("code", "id"))
    joined = InputSource("who", path=name, key=("c", "code"), columns=("b", "c"))
    assert read(driver, joined) == [{"code": 20, "id": 7, "who": {"b": "y", "c": 20}}]


def test_columns_of_a_csv_file_are_judged_some_at_a_time_and_unwanted_ones_never(
    put: Callable[[str, str], Path], read: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("wide.csv", "a,b,c,d,e,f\n1,x,0.5,true,007,\n2,y,1.5,false,008,\n")
    whole = {"a": 1, "b": "x", "c": 0.5, "d": True, "e": "007", "f": None}
    judged: list[str] = []

    def kind_of(column: str, real: Callable[[str], str] = csv_table._kind_of) -> str:
        judged.append(column)
        return real(column)

    monkeypatch.setattr(csv_table, "_kind_of", kind_of)
    monkeypatch.setattr(csv_table, "MAX_JUDGED", 2)
    monkeypatch.setattr(csv_table, "MAX_COUNTED", 2)
    assert read("wide.csv")[0] == whole
    judged.clear()
    assert read(InputSource("rows", path="wide.csv", columns=("d", "e")))[0] == {"d": True, "e": "007"}
    assert judged == ["r3", "r4"]


def test_a_line_that_does_not_fit_is_found_whatever_is_wanted(
    put: Callable[[str, str], Path], open_at: Callable[..., RowSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_table, "MAX_COUNTED", 1)
    for text in ("a,b,c\n1,2,3\n1,2\n", "a,b,c\n1,2,3\n1,2,3,4\n", 'a,b,c\n1,2,3\n1,2,"3\n'):
        put("bad.csv", text)
        with pytest.raises(InputError, match=r"fields where|quoted field"):
            open_at(InputSource("rows", path="bad.csv", columns=("a",))).count()
    (Path(put("bad.csv", "a,b,c\n"))).write_bytes(b"a,b,c\n1,2,\xff\n")
    with pytest.raises(InputError, match="not UTF-8"):
        open_at(InputSource("rows", path="bad.csv", columns=("a",))).count()
