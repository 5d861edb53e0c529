"""One input, opened: its files found, its rows of a query or a function kept, and the format that reads them.

Owns the choice of the format. The formats are in formats/.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb

from sundog.errors import InputError
from sundog.ir.logical import InputSource
from sundog.runtime.rows.formats.json_table import JSONTable
from sundog.runtime.rows.paths import find_files
from sundog.runtime.rows.table import InputTable


def open_table(
    source: InputSource, connection: duckdb.DuckDBPyConnection, base_dir: Path, snapshot_dir: Path, scratch_dir: Path
) -> InputTable:
    """Return the rows of one input, read by `connection`; InputError where its files are not there, or not of the form
    that the flow says. `base_dir`: relative paths begin here. `snapshot_dir`: keeps the rows of a query or a function.
    """
    if source.path is None:
        from sundog.runtime.rows.snapshot import take_snapshot

        files = take_snapshot(source, connection, base_dir, snapshot_dir)
        files = replace(files, columns=source.columns)
        return JSONTable(connection, files, scratch_dir, is_snapshot=True)
    files = replace(find_files(source, base_dir), columns=source.columns)
    if source.types and files.format != "csv":
        raise InputError(
            f"input '{source.name}' has `types`, but a {files.format} file has its own",
            where=source.location,
            hint="remove `types`, or use a `query:` with casts",
        )
    if source.at is not None and files.format != "json":
        raise InputError(
            f"input '{source.name}' has `at`, but a {files.format} file holds no array",
            where=source.location,
            hint="`at` names the array inside a .json file",
        )
    match files.format:
        case "json":
            from sundog.runtime.rows.formats.json_elements import as_lines

            return JSONTable(connection, as_lines(files, source.at, scratch_dir), scratch_dir)
        case "csv":
            from sundog.runtime.rows.formats.csv_table import CSVTable

            return CSVTable(connection, files, source.types)
        case "jsonl":
            return JSONTable(connection, files, scratch_dir)
        case "parquet":
            from sundog.runtime.rows.formats.parquet_table import ParquetTable

            return ParquetTable(connection, files)
