"""The files a run leaves: its rows, and its failures beside them.

Owns formats and names of the output. A file appears whole or not at all, and the same rows give the same bytes. Outputs
that are folders of parts are `folders`'.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic_core import to_json

from sundog.errors import ConfigError, suggest
from sundog.runtime.rows.folders.output_folder import OutputFolder, PartOwner, folder_of
from sundog.runtime.rows.formats.json_file import write_json, write_jsonl
from sundog.runtime.rows.formats.stored_rows import SizedRow, StoredRows, parsed
from sundog.runtime.rows.whole_file import told_failures, whole_file

Output = Path | OutputFolder
"""A file that is written whole, or a folder of parts."""
OutputFormat = Literal["csv", "duckdb", "json", "jsonl", "parquet"]
SUFFIXES: dict[str, OutputFormat] = {
    ".csv": "csv",
    ".duckdb": "duckdb",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
MAX_NAME_BYTES = 255
"""The longest name of a file on almost every file system."""
STREAMED: frozenset[OutputFormat] = frozenset({"csv", "json", "jsonl"})
"""Formats that need no file to be written: each row once, and never back."""


@dataclass(frozen=True, slots=True)
class Target:
    """The meaning of an output path: `file`, and the `table` in it where that is a database."""

    file: Path
    format: OutputFormat
    table: str | None = None


def output_meant(written: str | Path) -> Output:
    """Return what a user means: a folder of parts where the text ends with a slash, else a file. ConfigError for a URL
    without that slash."""
    return folder_of(written) or Path(written) if isinstance(written, str) else written


def output_identity(output: Output) -> str:
    """Return a text that is the same for the same output, whatever the working folder."""
    return output.identity if isinstance(output, OutputFolder) else str(output.resolve())


def target_of(path: Path) -> Target:
    """Return the meaning of a path: `out.parquet` is a file, `out.duckdb#answers` a table in one; ConfigError for
    anything else."""
    if path.name in ("", ".."):
        raise ConfigError(f"the output {path} is a folder", hint=f"name a file in it: {path / 'rows.parquet'}")
    name, _, table = path.name.partition("#")
    file, is_database = path.with_name(name), name.lower().endswith(".duckdb")
    if is_database and re.fullmatch(r"\w+", table) is None:
        hint = f"name it after a #, in letters, digits and _: {name}#rows"
        raise ConfigError(f"the output {path} names no table of the database", hint=hint)
    return Target(file, "duckdb", table) if is_database else Target(path, _format_of(path))


def check_output_paths(outputs: Mapping[str, Output]) -> None:
    """Say now what would go wrong at the end; ConfigError, also where two tables would go into one file or folder."""
    targets: dict[tuple[str, str | None], str] = {}
    for name, output in outputs.items():
        if isinstance(output, OutputFolder):
            _check_folder(output)
            place: tuple[str, str | None] = (output.identity, None)
        else:
            check_output_path(output)
            target = target_of(output)
            place = (os.path.realpath(target.file), target.table)
        other = targets.setdefault(place, name)
        if other != name:
            what = "folder" if isinstance(output, OutputFolder) else "file"
            hint = f"name a {what} for each"
            raise ConfigError(f"the tables '{other}' and '{name}' both go to {output}", hint=hint)


def check_output_path(path: Path) -> None:
    """Say now what would go wrong at the end; ConfigError."""
    if path.name not in ("", "..") and path.is_dir():
        hint = f"name a file in it: {path / 'rows.parquet'}, or write {path}/ for a folder of parts"
        raise ConfigError(f"the output {path} is a folder", hint=hint)
    target = target_of(path)
    folder = Path(os.path.realpath(target.file)).parent
    # The longest name that is written: the part file of the errors.
    if len(os.fsencode(errors_path(path).name)) + len("..part") > MAX_NAME_BYTES:
        raise ConfigError(f"the name of the output is too long: {path.name[:40]}...", hint="name a shorter one")
    if errors_path(path).is_dir():
        what = f"failed rows of the output {path} go to {errors_path(path)}, which is a folder"
        raise ConfigError(what, hint="move the folder away, or name another output")
    _check_writable(folder, str(path))
    if target.format == "duckdb":
        from sundog.runtime.rows.formats.duckdb_file import check_database

        check_database(target.file)


def _check_folder(output: OutputFolder) -> None:
    """Say what is wrong with a URL, or with a folder of this machine, which is made at the end where it is missing."""
    path = output.path
    if path is None:
        from sundog.runtime.rows.folders.places import place_of

        place_of(output)
        return
    if path.exists() and not path.is_dir():
        raise ConfigError(f"the output {output} is no folder", hint="name another folder, or leave its last slash away")
    _check_writable(path if path.is_dir() else path.resolve().parent, output.written)


def _check_writable(folder: Path, written: str) -> None:
    if not folder.is_dir():
        is_home = written.startswith("~")
        hint = "`~` is not expanded here: write the whole path" if is_home else f"mkdir -p {folder}"
        raise ConfigError(f"the folder of the output is not there: {folder}", hint=hint)
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"cannot write into {folder}", hint="name an output elsewhere, or change its permissions")


def check_output_folders(outputs: Mapping[str, Output], run_id: str) -> None:
    """Raise ConfigError where another run has written into a folder, StoreError where a URL cannot be written."""
    for output in outputs.values():
        if isinstance(output, OutputFolder):
            from sundog.runtime.rows.folders.parts import check_folder

            check_folder(output, run_id)


def write_result(output: Output, owner: PartOwner, columns: Sequence[str], rows: StoredRows) -> tuple[str, ...]:
    """Write `columns` of all rows of a run's table, as `write_output` and `write_parts` do; the warnings."""
    if isinstance(output, OutputFolder):
        from sundog.runtime.rows.folders.parts import write_parts

        return write_parts(output, owner, columns, rows)
    return write_output(output, columns, rows)


def write_output(path: Path, columns: Sequence[str], rows: StoredRows) -> tuple[str, ...]:
    """Write `columns` of all rows to `path`, as its suffix says; returns warnings, one sentence each.

    csv: null is an empty field, empty text is "", lists and records are JSON text. jsonl: one object per line; json: an
    array of them. parquet and duckdb: types from the values (column_type). What `path` links to is replaced. RunError
    when it cannot be written; what was there then stays.
    """
    target = target_of(path)
    if target.table is not None:
        from sundog.runtime.rows.formats.duckdb_file import write_table

        return write_table(target.file, target.table, columns, rows)
    with whole_file(path) as stream:
        return write_rows(stream, target.format, columns, rows)


def write_rows(stream: BinaryIO, format: OutputFormat, columns: Sequence[str], rows: StoredRows) -> tuple[str, ...]:
    """Write `columns` of all rows in `format`; a stream that is no file takes those of `STREAMED`. The warnings."""

    def read() -> Iterator[SizedRow]:
        return parsed(rows())

    match format:
        case "csv":
            from sundog.runtime.rows.formats.csv_file import write_csv

            warnings = write_csv(stream, columns, read())
        case "json":
            write_json(stream, columns, read())
            warnings = ()
        case "jsonl":
            write_jsonl(stream, columns, read())
            warnings = ()
        case "parquet":
            from sundog.runtime.rows.formats.parquet_file import write_parquet

            warnings = write_parquet(stream, columns, read)
        case "duckdb":
            raise AssertionError("a table is written into its database")
    return warnings


def errors_path(output: Path) -> Path:
    """Return where the failed rows of `output` are listed."""
    return output.with_name(f"{output.name.replace('#', '.')}.errors.jsonl")


def write_errors(output: Output, failures: Iterable[Mapping[str, Any]]) -> Path | str | None:
    """Write one JSON line per failure beside `output`; without failures there is no file, an old one goes."""
    if isinstance(output, OutputFolder):
        from sundog.runtime.rows.folders.parts import write_folder_errors

        return write_folder_errors(output, failures)
    path, remaining = errors_path(output), iter(failures)
    first = next(remaining, None)
    if first is None:
        with told_failures(str(path)):
            path.unlink(missing_ok=True)
        return None
    with whole_file(path) as stream:
        stream.write(to_json(first) + b"\n")
        for failure in remaining:
            stream.write(to_json(failure) + b"\n")
    return path


def _format_of(path: Path) -> OutputFormat:
    format = SUFFIXES.get(path.suffix.lower())
    if format is None:
        raise ConfigError(
            f"cannot tell the format of the output '{path.name}' from its name",
            hint=suggest(path.suffix, SUFFIXES) if path.suffix else f"end it with one of: {', '.join(SUFFIXES)}",
        )
    return format
