"""The results of a run for Python users: rows, failures and the report, as lists and tables.

Owns the public classes of a run's results. The rows stay in the state folder; this module reads them when they are
asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from html import escape
from importlib import import_module
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sundog.errors import ConfigError
from sundog.runtime.figures.report import Report
from sundog.runtime.rows.outputs import write_output
from sundog.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

NUM_NOTEBOOK_ROWS = 20
MAX_SHOWN_CHARS = 200


class Row(dict[str, Any]):
    """An output row by column; `row_index` is its number in the input, from 0."""

    def __init__(self, row_index: int, columns: Mapping[str, Any]) -> None:
        super().__init__(columns)
        self.row_index = row_index


class Result:
    """The result of a run. The rows stay in the state folder and are read when they are asked for."""

    def __init__(self, state_dir: Path, report: Report, columns: tuple[str, ...]) -> None:
        self.report = report
        self.columns = columns
        self._state_dir = state_dir

    def __iter__(self) -> Iterator[Row]:
        """Yield the output rows in input order, streamed."""
        with closing(Store(self._state_dir)) as store:
            for row_index, body in store.rows(self.report.run_id, "done"):
                yield Row(row_index, store.decoded(body))

    def __len__(self) -> int:
        return self.report.num_done

    @property
    def errors(self) -> list[dict[str, Any]]:
        """Return {row, node, cause, attempts} of each failed row, and its hint where there is one, in input order."""
        with closing(Store(self._state_dir)) as store:
            failed = store.rows(self.report.run_id, "failed")
            return [{"row": index, **store.decoded(body)} for index, body in failed]

    def to_list(self) -> list[Row]:
        return list(self)

    def to_arrow(self) -> pa.Table:
        """Return the rows with the types that a Parquet output would have."""
        from pyarrow import parquet

        with TemporaryDirectory(prefix="sundog-") as folder, closing(Store(self._state_dir)) as store:
            path = Path(folder) / "rows.parquet"
            write_output(path, self.columns, lambda: store.rows(self.report.run_id, "done"))
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
        """Return the first rows as a table, and the report."""
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
