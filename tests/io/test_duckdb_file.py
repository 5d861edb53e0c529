"""Output into a table of a DuckDB file: the table as a whole, and nothing else of the file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sundog.errors import ConfigError, RunError
from sundog.ir.row_ids import RowId
from sundog.ir.values.canonical import canonical_json
from sundog.runtime.rows.outputs import check_output_path, errors_path, write_output

ROWS: list[dict[str, Any]] = [{"id": 1, "note": "x", "tags": ["a"]}, {"id": None, "note": "", "tags": None}]


def stored(rows: list[dict[str, Any]]) -> Callable[[], Iterator[tuple[RowId, bytes]]]:
    return lambda: (((index,), canonical_json(row)) for index, row in enumerate(rows))


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> tuple[str, ...]:
    return write_output(path, list(rows[0]), stored(rows))


def ask(path: Path, sql: str) -> list[Any]:
    with duckdb.connect(str(path), read_only=True) as database:
        return database.execute(sql).fetchall()


def test_a_table_is_made_and_replaced_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "out.duckdb"
    with duckdb.connect(str(path)) as database:
        database.execute("create table mine as select 7 as a")
    for rows in (ROWS, ROWS[:1]):
        check_output_path(tmp_path / "out.duckdb#answers")
        assert write(tmp_path / "out.duckdb#answers", rows) == ()
        assert ask(path, "select * from answers") == [tuple(row.values()) for row in rows]
    assert ask(path, "select * from mine") == [(7,)]
    assert ask(path, "select column_type from (describe answers)") == [("BIGINT",), ("VARCHAR",), ("VARCHAR[]",)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.duckdb"]


def test_values_without_a_common_type_are_told(tmp_path: Path) -> None:
    warnings = write(tmp_path / "out.duckdb#t", [{"v": 1}, {"v": "a"}])
    assert warnings == ("column 'v' is written as JSON text: it holds text and whole numbers",)


def test_a_failure_leaves_the_old_table_and_no_new_file(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[RowId, bytes]]:
        yield (0,), b'{"a": 1}'
        raise KeyboardInterrupt

    write(tmp_path / "out.duckdb#t")
    for name in ("out.duckdb#t", "new.duckdb#t"):
        with pytest.raises(KeyboardInterrupt):
            write_output(tmp_path / name, ["a"], broken)
    assert ask(tmp_path / "out.duckdb", "select count(*) from t") == [(2,)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.duckdb"]


def test_a_view_of_that_name_is_told(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "out.duckdb")) as database:
        database.execute("create view t as select 7 as a")
    with pytest.raises(RunError, match="cannot write table 't' of"):
        write(tmp_path / "out.duckdb#t")


def test_a_database_that_is_open_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "out.duckdb"
    write(tmp_path / "out.duckdb#t")
    hold = f"import duckdb; c = duckdb.connect({str(path)!r}); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(ConfigError) as early:
            check_output_path(tmp_path / "out.duckdb#t")
        with pytest.raises(RunError) as late:
            write(tmp_path / "out.duckdb#t")
        for caught in (early, late):
            assert caught.value.hint == "it is open elsewhere: close it there, and repeat the command"
        other.communicate("\n")


@pytest.mark.parametrize("name", ["out.duckdb", "out.duckdb#", "out.duckdb#a b", 'out.duckdb#a"b', "out.duckdb#a.b"])
def test_an_output_names_its_table(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_output_path(tmp_path / name)
    assert caught.value.hint == "name it after a #, in letters, digits and _: out.duckdb#rows"


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "out.duckdb").write_text("text" * 5000)
    with pytest.raises(ConfigError, match="cannot open the output"):
        check_output_path(tmp_path / "out.duckdb#t")


def test_the_errors_file_has_a_name_that_a_shell_takes(tmp_path: Path) -> None:
    assert errors_path(tmp_path / "out.duckdb#t") == tmp_path / "out.duckdb.t.errors.jsonl"
