"""A database with the tables of a workload: SQLite in the cache folder, PostgreSQL where a URL is given.

Owns loading. Never changes a table that is there: a set of tables is loaded
once under a name that says which data it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, inspect, text

from sundog.operators.sql.url import reveal_url
from sundog.secrets import Secrets

Value = str | int | float | None
# SQLite's integers have 64 bits and its reals are doubles.
SERVER_TYPES = {"integer": "bigint", "real": "double precision"}


@dataclass(frozen=True, slots=True)
class Table:
    """`columns`: name and type of each (text, integer, real); `indexes`: columns that have one."""

    name: str
    columns: Mapping[str, str]
    rows: Iterable[tuple[Value, ...]]
    indexes: tuple[str, ...] = ()
    searches: str | None = None


def is_loaded(url: str, mark: str, secrets: Secrets) -> bool:
    """Return whether the tables that `mark` names are whole."""
    if url.startswith("sqlite"):
        return Path(url.removeprefix("sqlite:///")).is_file()
    engine = create_engine(reveal_url(url, secrets))
    try:
        return inspect(engine).has_table(mark)
    finally:
        engine.dispose()


def load(url: str, tables: Iterable[Table], mark: str, secrets: Secrets) -> None:
    """Fill a database that does not have them yet; `mark` is written last."""
    if url.startswith("sqlite"):
        _load_sqlite(Path(url.removeprefix("sqlite:///")), tables)
    else:
        _load_server(url, tables, mark, secrets)


def _load_sqlite(path: Path, tables: Iterable[Table]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    connection = sqlite3.connect(part)
    for table in tables:
        connection.execute(_create(table, {}))
        marks = ", ".join("?" * len(table.columns))
        connection.executemany(f"insert into {table.name} values ({marks})", table.rows)
        for column in table.indexes:
            connection.execute(_index(table, column))
        if table.searches is not None:
            name, column = f"{table.name}_text", table.searches
            connection.execute(f"create virtual table {name} using fts5({column}, content='{table.name}')")
            connection.execute(f"insert into {name} (rowid, {column}) select id, {column} from {table.name}")
    connection.execute("analyze")
    connection.commit()
    connection.close()
    part.replace(path)


def _load_server(url: str, tables: Iterable[Table], mark: str, secrets: Secrets) -> None:
    engine = create_engine(reveal_url(url, secrets))
    try:
        with engine.begin() as connection:
            # Marks of the same data at another scale stand for tables that go now.
            for name in inspect(connection).get_table_names():
                if name.rpartition("_")[0] == mark.rpartition("_")[0]:
                    connection.execute(text(f"drop table {name}"))
            for table in tables:
                connection.execute(text(f"drop table if exists {table.name}"))
                connection.execute(text(_create(table, SERVER_TYPES)))
                values = ", ".join(f":{name}" for name in table.columns)
                rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
                connection.execute(text(f"insert into {table.name} values ({values})"), rows)
                for column in table.indexes:
                    connection.execute(text(_index(table, column)))
            connection.execute(text(f"create table {mark} (is_whole integer)"))
    finally:
        engine.dispose()


def _create(table: Table, types: Mapping[str, str]) -> str:
    columns = ", ".join(f"{name} {types.get(kind, kind)}" for name, kind in table.columns.items())
    return f"create table {table.name} ({columns})"


def _index(table: Table, column: str) -> str:
    return f"create index {table.name}_{column} on {table.name} ({column})"
