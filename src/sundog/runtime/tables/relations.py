"""The relations of a flow: its inputs, and its tables once they have ended, as the queries of tables read them.

Owns one DuckDB connection, which is scratch: after a kill it is filled anew. Never decides what a query may say; that
is the affair of the room `queries`.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, TypeVar

import duckdb
from duckdb.sqltypes import DuckDBPyType

from sundog.errors import FlowError, InputError, RunError
from sundog.execution.input_row import BadRow, InputRow
from sundog.ir.logical import InputSource, Table
from sundog.ir.sql_types import SQLType, spell_type, sql_name
from sundog.queries.marked import FAILED
from sundog.queries.order import Keyed, with_keys
from sundog.queries.parsed import Query
from sundog.runtime.rows.duck import new_name
from sundog.runtime.rows.failures import explained, explained_of_table, first_sentence
from sundog.runtime.rows.formats.loaded_json import load_lines
from sundog.runtime.rows.formats.open_table import open_table
from sundog.runtime.rows.row_choice import RowChoice
from sundog.runtime.rows.values.query_rows import json_lines, query_rows
from sundog.runtime.tables.column_types import ColumnTypes, column_type, refuse_twice
from sundog.runtime.tables.query_memory import QueryMemory


@dataclass(frozen=True, slots=True)
class KeptRows:
    """The rows of one query as a table."""

    #: Nobody else uses it.
    cursor: duckdb.DuckDBPyConnection
    name: str
    types: Mapping[str, DuckDBPyType]


T = TypeVar("T")


class Relations:
    """The inputs and ended tables of one flow as tables of DuckDB, whose `rowid` counts their rows in order."""

    def __init__(
        self,
        inputs: Sequence[InputSource],
        base_dir: Path,
        snapshot_dir: Path | None,
        choice: RowChoice,
        constants: Mapping[str, Any],
    ) -> None:
        """`snapshot_dir`: as of `open_rows`. `choice`: the rows of the first input that are taken; of the others all
        are."""
        self._inputs = {source.name: source for source in inputs}
        self._base_dir = base_dir
        self._scratch_dir = Path(tempfile.mkdtemp(prefix="sundog-"))
        self._snapshot_dir = snapshot_dir or self._scratch_dir
        self._choice = choice
        self.constants = constants
        self._memory = QueryMemory(self._scratch_dir)
        self._connection = self._memory.connection
        self._loaded: set[str] = set()
        self._declared: set[str] = set()
        self._running: set[duckdb.DuckDBPyConnection] = set()
        self._lock = Lock()
        #: By table the schema in which its query finds failed rows too.
        self._marked: dict[str, str] = {}
        self._remove = weakref.finalize(self, shutil.rmtree, self._scratch_dir, ignore_errors=True)

    def close(self) -> None:
        self._connection.close()
        self._remove()

    def interrupt(self) -> None:
        """End the queries that run now, each with an error."""
        for cursor in tuple(self._running):
            cursor.interrupt()

    def with_room(self, work: Callable[[], T]) -> T:
        """Return what `work` gives over these relations, with as much memory as `QueryMemory` may give it."""
        return self._memory.with_room(work)

    def load_input(self, name: str) -> None:
        """Make the rows of an input a relation, if they are none yet. InputError where they cannot be read, and where a
        row holds what no value can be: a query over the others would leave it out without a word."""
        self.with_room(partial(self._load_input, name))

    def _load_input(self, name: str) -> None:
        with self._lock:
            if name in self._loaded:
                return
            source = self._inputs[name]
            table = open_table(source, self._connection, self._base_dir, self._snapshot_dir, self._scratch_dir)
            num_rows = table.count()
            with explained(table.explain):
                relation = table.relation()
                if num_bad := table.num_bad():
                    raise InputError(
                        f"{num_bad:,} rows of input '{name}' hold what no value can be, and a query needs all rows",
                        where=source.location,
                        hint="mend these rows, or read them by a table with `from:`, where each of them fails alone",
                    )
                is_first = name == next(iter(self._inputs))
                select = self._chosen(relation, num_rows) if is_first else relation
                self._connection.execute(f"CREATE OR REPLACE TABLE {sql_name(name)} AS {select}")
            self._loaded.add(name)

    def num_rows(self, name: str) -> int:
        """Return how many rows a relation has that is there."""
        ((number,),) = self._connection.execute(f"SELECT count(*) FROM {sql_name(name)}").fetchall()
        return int(number)

    def input_columns(self, name: str) -> ColumnTypes:
        """Return the columns of an input, whose rows are not loaded for this where its files tell them."""
        return self.columns_of(name) if name in self._loaded else self.with_room(partial(self._columns_read, name))

    def _columns_read(self, name: str) -> ColumnTypes:
        source = self._inputs[name]
        table = open_table(source, self._connection, self._base_dir, self._snapshot_dir, self._scratch_dir)
        with explained(table.explain):
            return self._typed(table.described(), None)

    def type_named(self, text: str) -> SQLType | None:
        """Return the type that SQL calls so; None where it is no type that a column can have."""
        try:
            found = self._connection.type(text)
        except duckdb.Error:
            return None
        return column_type(found)

    def columns_of(self, name: str) -> ColumnTypes:
        """Return the columns of a relation that is there."""
        return self._typed(f"SELECT * FROM {sql_name(name)}", None)

    def declare_input(self, name: str) -> None:
        """Make an input, whose rows are not loaded, an empty relation; nothing where it is one, or a table."""
        if name in self._inputs and name not in self._loaded | self._declared:
            self._declared.add(name)
            self.declare(name, self.input_columns(name))

    def declare(self, name: str, columns: ColumnTypes) -> None:
        """Make an empty relation."""
        types = ", ".join(f"{sql_name(column)} {spell_type(type)}" for column, type in columns)
        self._connection.execute(f"CREATE OR REPLACE TABLE {sql_name(name)} ({types})")

    def load(self, name: str, columns: ColumnTypes, lines: Iterable[bytes]) -> None:
        """Make a relation of rows as JSON objects, in their order, in the place of one of that name."""
        types = {column: spell_type(type) for column, type in columns}
        with self._lock, explained_of_table(lambda error: _unloadable(name, error)):
            self._connection.execute(f"DROP TABLE IF EXISTS {sql_name(name)}")
            load_lines(self._connection, sql_name(name), lines, types)

    def drop(self, name: str) -> None:
        """Give back the memory of a relation that nobody reads any more."""
        with self._lock:
            self._connection.execute(f"DROP TABLE IF EXISTS {sql_name(name)}")
            self._loaded.discard(name)
            self._declared.discard(name)

    @contextmanager
    def marked(
        self, reader: str, name: str, columns: ColumnTypes, rows: Iterable[tuple[bytes, Sequence[str]]]
    ) -> Iterator[None]:
        """Let the query of the table `reader` find `rows`, in their order, as the relation `name` until the block ends:
        the JSON object of each, and for one that is missing the tables in which rows failed for it, which the relation
        `FAILED` has by its number."""
        schema, numbers, tables = new_name("marked"), list[int](), list[Sequence[str]]()

        def lines() -> Iterator[bytes]:
            for number, (line, failed_in) in enumerate(rows):
                if failed_in:
                    numbers.append(number)
                    tables.append(failed_in)
                yield line

        with self._lock, explained_of_table(lambda error: _unloadable(name, error)):
            self._connection.execute(f"CREATE SCHEMA {schema}")
            types = {column: spell_type(type) for column, type in columns}
            load_lines(self._connection, f"{schema}.{sql_name(name)}", lines(), types)
            missing = "unnest(?::BIGINT[]) AS id, unnest(?::VARCHAR[][]) AS failed_in"
            self._connection.execute(f"CREATE TABLE {schema}.{FAILED} AS SELECT {missing}", [numbers, tables])
            self._marked[reader] = schema
        try:
            yield
        finally:
            del self._marked[reader]
            with self._lock:
                self._connection.execute(f"DROP SCHEMA {schema} CASCADE")

    def describe(self, table: Table, query: Query) -> ColumnTypes:
        """Return the columns that a query gives over the relations as they are, which may be empty; FlowError for what
        only their types show to be wrong, and for two columns of one name, as a star may give."""
        with explained_of_table(lambda error: _mistake(table, error)), closing(self._connection.cursor()) as cursor:
            names = [
                str(row[0])
                for row in cursor.execute(f"DESCRIBE {query.sql}", self._parameters(query) or None).fetchall()
            ]
            refuse_twice(table, names)
            return self._typed(query.sql, query)

    def lines(self, table: Table, query: Query, nulled: Counter[str], *, is_ordered: bool = True) -> Iterator[bytes]:
        """Yield the rows of a table's query, a line of JSON for each, in their order, which takes memory for long ones,
        or without one. RunError where the query fails or gives more rows than the table may have."""
        keyed = with_keys(query) if is_ordered else Keyed(query.sql, 0, "values", False)
        num_rows = 0
        with explained_of_table(lambda error: _failure(table, error)), self._cursor() as cursor:
            if table.name in self._marked:
                cursor.execute(f"SET search_path = '{self._marked[table.name]},main'")
            found = json_lines(
                cursor,
                keyed.sql,
                self._types(query.sql, query, cursor),
                nulled,
                num_keys=keyed.num_keys,
                parameters=self._parameters(query),
            )
            for line in found:
                num_rows += 1
                if num_rows > table.max_rows:
                    raise too_many_rows(table)
                yield line

    def keyed_rows(
        self,
        query: Query,
        keyed: Keyed,
        stream: str,
        columns: ColumnTypes,
        lines: Sequence[bytes],
        nulled: Counter[str],
    ) -> list[tuple[tuple[int, ...], InputRow | BadRow]]:
        """Return the rows that `query`, with its keys, gives over some rows of the table `stream`, JSON objects in the
        place of all of its rows: the keys of each, and the row. Raises what DuckDB raises."""
        schema = new_name("batch")
        with self._cursor() as cursor:
            cursor.execute(f"CREATE SCHEMA {schema}")
            try:
                cursor.execute(f"SET search_path = '{schema},main'")
                types = {column: spell_type(type) for column, type in columns}
                load_lines(cursor, f"{schema}.{sql_name(stream)}", lines, types)
                parameters = self._parameters(query)
                of_query = _types_of(cursor, query.sql, parameters)
                found = query_rows(cursor, keyed.sql, of_query, nulled, num_keys=keyed.num_keys, parameters=parameters)
                return [(one.keys, one.row) for one in found]
            finally:
                cursor.execute("RESET search_path")
                cursor.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")

    @contextmanager
    def kept(self, table: Table, query: Query) -> Iterator[KeptRows]:
        """The rows of a query in a table of their own, whose `rowid` counts them in their order, until the block ends.
        RunError as of `lines`, and for what fails in the block."""
        keyed, types, name = with_keys(query), self._types(query.sql, query), new_name("kept")
        hidden = "".join(f", __k{index}" for index in range(keyed.num_keys))
        with explained_of_table(lambda error: _failure(table, error)), self._cursor() as cursor:
            try:
                columns = ", ".join(map(sql_name, types))
                select = f"SELECT {columns} FROM ({keyed.sql}\n) AS t({columns}{hidden}) LIMIT {table.max_rows + 1}"
                cursor.execute(f"CREATE TABLE {name} AS {select}", self._parameters(query) or None)
                ((num_rows,),) = cursor.execute(f"SELECT count(*) FROM {name}").fetchall()
                if num_rows > table.max_rows:
                    raise too_many_rows(table)
                yield KeptRows(cursor, name, types)
            finally:
                cursor.execute(f"DROP TABLE IF EXISTS {name}")

    def first_numbers(self, keys: Sequence[tuple[SQLType, bool]], lines: Iterable[bytes], num_rows: int) -> list[int]:
        """Return the numbers of the first rows in an order: by `keys`, for each its type and whether larger values come
        first, and then by the numbers. `lines`: a JSON object for each row: its number `n`, its keys `k0`, `k1`..."""
        name, order = new_name("first"), [f"k{at}{' DESC' if keys[at][1] else ''}" for at in range(len(keys))]
        types = {"n": "BIGINT", **{f"k{at}": spell_type(type) for at, (type, _) in enumerate(keys)}}
        with explained_of_table(lambda error: _unloadable(name, error)), self._cursor() as cursor:
            try:
                load_lines(cursor, name, lines, types)
                select = f"SELECT n FROM {name} ORDER BY {', '.join([*order, 'n'])} LIMIT {num_rows}"
                return [number for (number,) in cursor.execute(select).fetchall()]
            finally:
                cursor.execute(f"DROP TABLE IF EXISTS {name}")

    def matching_numbers(
        self, alias: str, columns: ColumnTypes, lines: Iterable[bytes], conditions: Sequence[str]
    ) -> list[int] | None:
        """Return the numbers of the rows for which all `conditions` hold; None where DuckDB cannot tell of some row.
        `lines`: a JSON object for each row: its number `__n`, and `columns`."""
        name = new_name("matched")
        types = {"__n": "BIGINT", **{column: spell_type(type) for column, type in columns}}
        where = " AND ".join(f"({condition}\n)" for condition in conditions)
        with explained_of_table(lambda error: _unloadable(name, error)), self._cursor() as cursor:
            try:
                load_lines(cursor, name, lines, types)
                found = cursor.execute(f"SELECT __n FROM {name} AS {sql_name(alias)} WHERE {where}").fetchall()
                return [number for (number,) in found]
            except (duckdb.DataError, duckdb.ProgrammingError):
                return None
            finally:
                cursor.execute(f"DROP TABLE IF EXISTS {name}")

    @contextmanager
    def scratch(self, table: Table) -> Iterator[tuple[duckdb.DuckDBPyConnection, BinaryIO]]:
        """A cursor whose query `interrupt` ends, and an empty file, for rows of `table` that are to be put in order.
        RunError for what fails in the block."""
        with (
            explained_of_table(lambda error: _failure(table, error)),
            self._cursor() as cursor,
            tempfile.TemporaryFile(dir=self._scratch_dir) as file,
        ):
            yield cursor, file

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor whose query `interrupt` ends."""
        with closing(self._connection.cursor()) as cursor:
            self._running.add(cursor)
            try:
                yield cursor
            finally:
                self._running.discard(cursor)

    def _chosen(self, select: str, num_rows: int) -> str:
        """Return `select` with the rows of the user's choice only."""
        num_candidates = self._choice.num_candidates(num_rows)
        chosen = self._choice.chosen(num_candidates)
        if chosen is None:
            return select if num_candidates == num_rows else f"{select} LIMIT {num_candidates}"
        numbers = ", ".join(map(str, sorted(chosen))) or "-1"
        numbered = f"SELECT *, row_number() OVER () - 1 AS __number FROM ({select})"
        return f"SELECT * EXCLUDE (__number) FROM ({numbered}) WHERE __number IN ({numbers})"

    def _typed(self, sql: str, query: Query | None) -> ColumnTypes:
        return tuple((name, column_type(type)) for name, type in self._types(sql, query).items())

    def _types(
        self, sql: str, query: Query | None, cursor: duckdb.DuckDBPyConnection | None = None
    ) -> dict[str, DuckDBPyType]:
        with closing(self._connection.cursor()) if cursor is None else nullcontext(cursor) as asked:
            # A relation's errors name no line.
            parameters = {} if query is None else self._parameters(query)
            asked.execute(f"DESCRIBE {sql}", parameters or None)
            return _types_of(asked, sql, parameters)

    def _parameters(self, query: Query) -> dict[str, Any]:
        return {name: self.constants[name] for name in query.parameters}


def _types_of(cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any]) -> dict[str, DuckDBPyType]:
    relation = cursor.sql(sql, params=dict(parameters) or None)
    return dict(zip(relation.columns, relation.types, strict=True))


def _mistake(table: Table, error: duckdb.Error) -> FlowError:
    candidates = re.search(r"^Candidate bindings[: ]+(.*)$", str(error), re.MULTILINE)
    hint = f"columns near that name: {candidates[1]}" if candidates else None
    if "array_cosine_similarity" in str(error):
        hint = "vectors that are compared have one length, which their type says: types: {vector: FLOAT[384]}"
    return FlowError(f"{_place(table, error)}: {first_sentence(error)}", where=table.location, hint=hint)


def _failure(table: Table, error: duckdb.Error) -> RunError:
    hint = "what has been computed is kept: mend the query's casts, or the rows, and repeat the command"
    return RunError(f"{_place(table, error)} failed: {first_sentence(error)}", where=table.location, hint=hint)


def _unloadable(name: str, error: duckdb.Error) -> RunError:
    return RunError(f"the rows of the table '{name}' cannot be read by queries: {first_sentence(error)}")


def too_many_rows(table: Table) -> RunError:
    """Return the error for a query that gives more rows than its table may have."""
    return RunError(
        f"the query of the table '{table.name}' gives more than {table.max_rows:,} rows",
        where=table.location,
        hint="does a join lack its condition? if not, raise max_rows"
        if table.made_by is None
        else f"let the block of '{table.block}' find fewer pairs, or raise max_pairs",
    )


def _place(table: Table, error: duckdb.Error) -> str:
    if table.made_by is not None:
        return f"the table '{table.name}' of the {table.made_by} '{table.block}'"
    found = re.search(r"^LINE (\d+):", str(error), re.MULTILINE)
    return f"the query of the table '{table.name}'" + (f" (its line {found[1]})" if found else "")
