"""Inputs of which only some columns are wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sundog.ir.logical import InputSource
from sundog.ir.shape import Record, Scalar
from sundog.runtime.io.inputs import RowSource

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
