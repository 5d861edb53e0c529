"""DuckDB's complaints in plain words.

Owns the translation that fits every format. The formats add what they know of lines.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import duckdb

from sundog.errors import InputError, RunError, SundogError, suggest
from sundog.runtime.rows.duck import MAX_LINE_BYTES
from sundog.runtime.rows.paths import InputFiles

MAX_QUOTED_CHARS = 80
_LESS_OF_AN_INPUT = "join fewer or narrower columns, or read the rows as they come (--no-rule hoist_prefix)"
_LESS_OF_A_TABLE = "let the query sort or join fewer or narrower columns"


@contextmanager
def explained(explain: Callable[[duckdb.Error], SundogError], *, with_less: str = _LESS_OF_AN_INPUT) -> Iterator[None]:
    """Raise what `explain` makes of a DuckDB error; lack of memory or disk is never the file's fault. `with_less` says
    what takes less memory."""
    try:
        yield
    except duckdb.Error as error:
        raise (_lack_of_room(error, with_less) or explain(error)) from error


explained_of_table = partial(explained, with_less=_LESS_OF_A_TABLE)


def unreadable(name: str, file: str, error: duckdb.Error) -> InputError:
    """Return the error for a file that DuckDB cannot read."""
    return InputError(
        f"cannot read the rows of input '{name}': {first_sentence(error)}",
        where=file,
        hint="the file may be damaged or only half written; write it again",
    )


def too_long(where: str) -> InputError:
    """Return the error for a line of more than MAX_LINE_BYTES at `where`."""
    return InputError(
        f"this line is longer than {MAX_LINE_BYTES // 2**20} MiB",
        where=where,
        hint="keep such texts in files of their own, or write the rows as parquet",
    )


def no_key_column(files: InputFiles, column: str, columns: Sequence[str]) -> InputError:
    """Return the error for an input without the column that it is joined by."""
    return InputError(
        f"input '{files.name}' has no column '{column}' to join by",
        where=files.show(files.paths[0]),
        hint=suggest(column, columns),
    )


def different_columns(files: InputFiles, path: Path, found: Sequence[str], expected: Sequence[str]) -> InputError:
    """Return the error for one of several files that has other columns than the first."""
    return InputError(
        f"its columns ({', '.join(found)}) are not those of {files.show(files.paths[0])} ({', '.join(expected)})",
        where=files.show(path),
        hint="files read together have the same columns; use `query:` to unite different ones",
    )


def first_sentence(error: duckdb.Error) -> str:
    """Return what DuckDB says first, without the name of its error class."""
    line = str(error).strip().split("\n", 1)[0]
    return re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", line).strip().rstrip(".")


def shorten(text: str) -> str:
    """Return `text` on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_QUOTED_CHARS else line[: MAX_QUOTED_CHARS - 3] + "..."


def _lack_of_room(error: duckdb.Error, with_less: str) -> RunError | None:
    if isinstance(error, duckdb.OutOfMemoryException):
        return RunError(
            "reading the rows needs more memory than it may take, or more room for its temporary files: "
            + first_sentence(error),
            hint=f"make room in the temporary folder (TMPDIR), or {with_less}",
        )
    if any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT)):
        return RunError(
            f"no room for temporary files: {first_sentence(error)}",
            hint="make room in the temporary folder, or set TMPDIR to another one",
        )
    return None
