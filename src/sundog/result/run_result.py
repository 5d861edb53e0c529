"""The results of a run for Python users: rows, failures and the report, as lists and tables.

Owns the public classes of a run's results. The rows stay in the state folder; this module reads them when they are
asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from html import escape
from importlib import import_module
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sundog.errors import ConfigError, suggest
from sundog.ir.row_ids import RowRef, spell_row_id
from sundog.runtime.figures.failed_rows import failed_rows
from sundog.runtime.figures.report import Report
from sundog.runtime.rows.outputs import write_output
from sundog.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

NUM_NOTEBOOK_ROWS = 20
MAX_SHOWN_CHARS = 200


class Row(dict[str, Any]):
    """An output row by column. `table` is "" in a flow that has one table only."""

    def __init__(self, ref: RowRef, columns: Mapping[str, Any]) -> None:
        super().__init__(columns)
        self.table = ref.table
        #: As in "17", the number of the row in the input, or "17.3" where it was made of another row.
        self.row_id = spell_row_id(ref.row_id)
        #: The number of the row in its input or query, from 0; of one that was made of another row, its number there.
        self.row_index = ref.row_id[-1]


class Result:
    """The result of a run. The rows stay in the state folder and are read when they are asked for."""

    def __init__(self, state_dir: Path, report: Report, columns: Mapping[str, tuple[str, ...]]) -> None:
        """`columns`: by the name of each result."""
        self.report = report
        self._columns = columns
        self._state_dir = state_dir

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the results, for `table`; one that is empty in a flow of one table."""
        return tuple(self._columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return self._columns[self._table]

    def table(self, name: str) -> Result:
        """Return one result of several; ConfigError for a name that none has."""
        if name not in self._columns:
            raise ConfigError(f"the flow has no result '{name}'", hint=suggest(name, [*filter(None, self._columns)]))
        return Result(self._state_dir, self.report, {name: self._columns[name]})

    def __iter__(self) -> Iterator[Row]:
        """Yield the output rows in their order, streamed; ConfigError where the flow has several results."""
        table = self._table
        with closing(Store(self._state_dir)) as store:
            for row_id, body in store.rows(self.report.run_id, table, "done"):
                yield Row(RowRef(table, row_id), store.decoded(body))

    def __len__(self) -> int:
        with closing(Store(self._state_dir)) as store:
            return store.count_rows(self.report.run_id).get((self._table, "done"), 0)

    @property
    def errors(self) -> list[dict[str, Any]]:
        """Return {row, node, cause, attempts} of each failed row, and its hint where there is one, in order; of all
        tables, with their names, where the flow has several."""
        with closing(Store(self._state_dir)) as store:
            return list(failed_rows(store, self.report.run_id, store.tables(self.report.run_id)))

    @property
    def _table(self) -> str:
        if len(self._columns) != 1:
            listed = ", ".join(self._columns)
            raise ConfigError(f"the flow has {len(self._columns)} results", hint=f"say which: .table(NAME) of {listed}")
        return next(iter(self._columns))

    def to_list(self) -> list[Row]:
        return list(self)

    def to_arrow(self) -> pa.Table:
        """Return the rows with the types that a Parquet output would have."""
        from pyarrow import parquet

        with TemporaryDirectory(prefix="sundog-") as folder, closing(Store(self._state_dir)) as store:
            path = Path(folder) / "rows.parquet"
            write_output(path, self.columns, partial(store.rows, self.report.run_id, self._table, "done"))
            return parquet.read_table(path)

    def to_pandas(self) -> Any:
        """Return the rows as a pandas DataFrame, with the types of `to_arrow`; ConfigError where pandas is not
        installed."""
        _needed("pandas")
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """Return the rows as a polars DataFrame, with the types of `to_arrow`; ConfigError where polars is not
        installed."""
        return _needed("polars").from_arrow(self.to_arrow())

    def __repr__(self) -> str:
        return str(self.report)

    def _repr_html_(self) -> str:
        """Return the first rows as a table, and the report; the report alone where the flow has several results."""
        if len(self._columns) != 1:
            return f"<pre>{escape(str(self.report))}</pre>"
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        lines = [
            "<tr>" + "".join(f"<td>{escape(_cell(row[name]))}</td>" for name in self.columns) + "</tr>"
            for row in islice(self, NUM_NOTEBOOK_ROWS)
        ]
        more = len(self) - len(lines)
        note = f"<p>{more:,} more rows</p>" if more > 0 else ""
        report = f"<pre>{escape(str(self.report))}</pre>"
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{note}{report}"


def _cell(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"


def _needed(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"to_{package} needs {package}, which is not installed", hint=f"pip install {package}"
        ) from error
