"""Inputs joined by key: no driving row lost, moved or repeated, and keys that cannot match are refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sundog.errors import InputError, Location
from sundog.ir.logical import InputSource
from sundog.ir.schemas.shape import Record, Scalar
from sundog.runtime.rows.inputs import RowSource

Put = Callable[[str, str | bytes], Path]
Open = Callable[..., RowSource]
Read = Callable[..., list[Any]]

ORDERS = InputSource("orders", path="orders.csv")


def joined(path: str, own: str = "id", driving: str = "customer") -> InputSource:
    return InputSource("who", path=path, key=(own, driving), location=Location("flow.yaml", 4, 3))


@pytest.fixture(autouse=True)
def orders(put: Put) -> None:
    put("orders.csv", "order,customer,code\n1,20,b\n2,10,007\n3,,\n4,99,zz\n5,10,b\n")


@pytest.mark.parametrize("name", ["who.csv", "who.jsonl", "who.parquet"])
def test_a_left_join_keeps_the_driving_rows_in_order(
    put: Put, tmp_path: Path, open_at: Open, read: Read, name: str
) -> None:
    put("who.csv", "id,name\n10,Ann\n20,Bob\n30,Cid\n,Nobody\n")
    put("who.jsonl", '{"id": 10, "name": "Ann"}\n{"id": 20, "name": "Bob"}\n{"id": null, "name": "Nobody"}\n')
    pq.write_table(
        pa.table({"id": pa.array([10, 20, None], pa.int16()), "name": ["Ann", "Bob", "Nobody"]}),
        tmp_path / "who.parquet",
    )
    rows = read(ORDERS, joined(name))
    assert [(row["order"], row["who"]) for row in rows] == [
        (1, {"id": 20, "name": "Bob"}),
        (2, {"id": 10, "name": "Ann"}),
        (3, None),
        (4, None),
        (5, {"id": 10, "name": "Ann"}),
    ]
    source = open_at(ORDERS, joined(name))
    assert source.count() == 5
    assert source.shape == Record.of(
        order=Scalar(), customer=Scalar(), code=Scalar(), who=Record.of(id=Scalar(), name=Scalar())
    )


@pytest.mark.parametrize("name", ["who.csv", "who.jsonl"])
def test_text_keys_match_exactly(put: Put, read: Read, name: str) -> None:
    put("who.csv", "id,name\nb,Bob\n007,Bond\nB,Other\n")
    put("who.jsonl", '{"id": "b", "name": "Bob"}\n{"id": "007", "name": "Bond"}\n{"id": "B", "name": "Other"}\n')
    rows = read(ORDERS, joined(name, driving="code"))
    assert [row["who"] and row["who"]["name"] for row in rows] == ["Bob", "Bond", None, None, "Bob"]


def test_a_jsonl_file_drives_and_a_key_may_have_any_name(put: Put, read: Read) -> None:
    put("orders.jsonl", '{"a/b~\'": "é"}\n{"x": 1}\n{"a/b~\'": "q"}\n')
    put("who.jsonl", '{"0": "\\u00e9", "v": [1]}\n')
    rows = read(InputSource("orders", path="orders.jsonl"), joined("who.jsonl", "0", "a/b~'"))
    assert [row["who"] for row in rows] == [{"0": "é", "v": [1]}, None, None]


def test_several_inputs_are_joined(put: Put, read: Read) -> None:
    put("who.csv", "id,name\n10,Ann\n20,Bob\n")
    put("codes.csv", "code,text\nb,beta\n")
    codes = InputSource("codes", path="codes.csv", key=("code", "code"))
    rows = read(ORDERS, joined("who.csv"), codes)
    assert [(row["who"] and row["who"]["name"], row["codes"]) for row in rows] == [
        ("Bob", {"code": "b", "text": "beta"}),
        ("Ann", None),
        (None, None),
        (None, None),
        ("Ann", {"code": "b", "text": "beta"}),
    ]


def test_a_large_join_keeps_order_and_restarts(put: Put, open_at: Open) -> None:
    ids = list(range(20_000))
    random.Random(1).shuffle(ids)
    put("orders.csv", "id\n" + "".join(f"{number}\n" for number in ids))
    put("who.csv", "id,name\n" + "".join(f"{number},n{number}\n" for number in range(0, 20_000, 2)))
    source = open_at(ORDERS, joined("who.csv", "id", "id"), limit=15_000)
    expected = [
        (index, {"id": number, "who": {"id": number, "name": f"n{number}"} if number % 2 == 0 else None})
        for index, number in enumerate(ids[:15_000])
    ]
    assert [row for batch in source.batches() for row in batch] == expected
    assert [row for batch in source.batches(start_row=14_000) for row in batch] == expected[14_000:]


def test_an_empty_joined_input_matches_nothing(put: Put, read: Read, open_at: Open) -> None:
    put("who.csv", "id,name\n")
    assert [row["who"] for row in read(ORDERS, joined("who.csv"))] == [None] * 5
    source = InputSource("who", query="select 1 as id where false", key=("id", "customer"))
    assert [row["who"] for row in read(ORDERS, source)] == [None] * 5


@pytest.mark.parametrize(
    ("content", "source", "message"),
    [
        (
            "id,name\n10,Ann\n20,Bob\n20,Bea\n10,Al\n",
            joined("who.csv"),
            "flow.yaml:4:3: the key 'who.id' must be unique, but 10 is there 2 times\n"
            "  remove the repeated rows, or use a `query:` that picks one of each",
        ),
        (
            "id,name\nb,Bob\nb,Bea\n",
            joined("who.csv", driving="code"),
            "flow.yaml:4:3: the key 'who.id' must be unique, but 'b' is there 2 times\n"
            "  remove the repeated rows, or use a `query:` that picks one of each",
        ),
        (
            "id,name\n010,Ann\n",
            joined("who.csv"),
            "flow.yaml:4:3: 'who.id' is text and 'orders.customer' is a whole number: they can never be equal\n"
            "  give both one type: `types: {column: VARCHAR}` for csv files, or a `query:` with a cast",
        ),
        (
            "idd,name\n10,Ann\n",
            joined("who.csv"),
            "who.csv: input 'who' has no column 'id' to join by\n  did you mean 'idd'?",
        ),
        (
            "id,name\n10,Ann\n",
            joined("who.csv", driving="custmer"),
            "orders.csv: input 'orders' has no column 'custmer' to join by\n  did you mean 'customer'?",
        ),
        (
            "id,name\n10,Ann\n",
            InputSource("who", path="who.csv"),
            "input 'who' has no `key` to join it by\n  key: {<its column>: <column of orders>}",
        ),
    ],
)
def test_bad_joins(put: Put, open_at: Open, content: str, source: InputSource, message: str) -> None:
    put("who.csv", content)
    with pytest.raises(InputError) as caught:
        open_at(ORDERS, source).count()
    assert str(caught.value) == message


def test_json_keys_of_two_kinds_are_refused(put: Put, open_at: Open) -> None:
    put("who.jsonl", '{"id": 10}\n{"id": "20"}\n')
    with pytest.raises(
        InputError, match=r"'who\.id' is of JSON type UBIGINT and VARCHAR and 'orders\.customer' is a whole"
    ):
        open_at(ORDERS, joined("who.jsonl")).count()


def test_the_name_of_a_joined_input_hides_no_column(put: Put, open_at: Open) -> None:
    put("who.csv", "id,name\n10,Ann\n")
    source = InputSource("code", path="who.csv", key=("id", "customer"))
    with pytest.raises(InputError, match="input 'code' has the name of a column of 'orders'"):
        open_at(ORDERS, source).count()
