"""A folder with the database of `tests.operators.shop`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("create table item (id integer primary key, name text unique, price real, photo blob)")
        connection.execute("insert into item values (1, 'tea', 2.5, x'00ff'), (2, 'milk', null, null)")
        connection.commit()
    return tmp_path
