"""The files that an input means, and their format.

Owns globs, suffixes and the complaints about names. Never reads what is in a file.
"""

from __future__ import annotations

import glob
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from sundog.errors import InputError, suggest
from sundog.ir.logical import InputSource

InputFormat = Literal["csv", "json", "jsonl", "parquet"]
INPUT_FORMATS: dict[str, InputFormat] = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
    ".tsv.gz": "csv",
    ".json": "json",
    ".json.gz": "json",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson": "jsonl",
    ".ndjson.gz": "jsonl",
    ".parquet": "parquet",
}


UNREADABLE = (OSError, EOFError, UnicodeDecodeError, zlib.error)
"""The exceptions that reading a damaged or vanished file raises."""


@dataclass(frozen=True, slots=True)
class InputFiles:
    """The files of one input, at least one, in the order in which they are read."""

    name: str
    paths: tuple[Path, ...]
    format: InputFormat
    base_dir: Path
    #: The columns that rows shall have, None for all.
    columns: tuple[str, ...] | None = None
    #: The documents that they were made from, one for each, an element a line; none where they are the user's own.
    written_from: tuple[Path, ...] = ()
    #: A sentence for each thing that had changed before they were written.
    notes: tuple[str, ...] = ()

    def is_wanted(self, column: str) -> bool:
        return self.columns is None or column in self.columns

    def show(self, path: Path) -> str:
        """Return `path` as a message names it: from the flow's folder where it lies inside."""
        if path in self.paths and self.written_from:
            path = self.written_from[self.paths.index(path)]
        return str(path.relative_to(self.base_dir) if path.is_relative_to(self.base_dir) else path)

    def show_line(self, path: Path, number: int) -> str:
        """Return the line numbered `number` from 1, as a message names it."""
        return f"{self.show(path)}: element {number}" if self.written_from else f"{self.show(path)}:{number}"

    def mentioned_in(self, message: str) -> Path | None:
        """Return the file of this input that `message` names; the only one when it names none."""
        named = [path for path in self.paths if str(path) in message]
        if not named and len(self.paths) == 1:
            return self.paths[0]
        return max(named, key=lambda path: len(str(path)), default=None)


def find_files(source: InputSource, base_dir: Path) -> InputFiles:
    """Return the files that `source.path` names, sorted by name; InputError when there are none to read."""
    assert source.path is not None
    pattern = base_dir / source.path
    if pattern.is_dir():
        hint = f"name its files: {source.path.rstrip('/')}/*{_suffix_in(pattern)}"
        raise _error(source, f"'{source.path}' is a folder", hint)
    if pattern.exists():
        found = [pattern]
    elif glob.has_magic(source.path):
        names = glob.glob(source.path, root_dir=base_dir, recursive=True)  # noqa: PTH207 - Path.glob takes hidden files
        found = sorted(path for name in names if (path := base_dir / name).is_file())
        if not found:
            raise _error(source, f"no file matches '{source.path}'", f"looked in {base_dir}")
    else:
        raise _missing(source, source.path, pattern)
    formats = {path: _format(source, path) for path in found}
    if len(set(formats.values())) > 1:
        raise _error(
            source,
            f"'{source.path}' matches files of different formats: {', '.join(sorted(set(formats.values())))}",
            f"end the pattern with one suffix: {source.path}.parquet",
        )
    files = InputFiles(source.name, tuple(found), formats[found[0]], base_dir)
    for path in found:
        _check_readable(source, files, path)
    return files


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """`path` for reading, decompressed where its name ends in `.gz`."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        yield cast(BinaryIO, stream)


@contextmanager
def open_text(path: Path) -> Iterator[io.TextIOWrapper]:
    """The text of `path`, UTF-8 with or without a mark, line ends as they are."""
    with open_bytes(path) as stream:
        yield io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")


def _format(source: InputSource, path: Path) -> InputFormat:
    matching = [suffix for suffix in INPUT_FORMATS if path.name.lower().endswith(suffix)]
    if not matching:
        raise _error(
            source,
            f"cannot tell the format of '{path.name}' from its name",
            f"sundog reads {', '.join(INPUT_FORMATS)}; read other files with `query:` (DuckDB SQL) or `call:` (Python)",
        )
    return INPUT_FORMATS[max(matching, key=len)]


def _check_readable(source: InputSource, files: InputFiles, path: Path) -> None:
    if not path.is_file():
        hint = "what can be read only once has no rows to count first: write it into a file"
        raise _error(source, f"'{files.show(path)}' is a pipe or a device", hint)
    try:
        with path.open("rb") as stream:
            is_empty = not stream.read(1)
    except OSError as error:
        raise _error(source, f"cannot read '{files.show(path)}': {error.strerror}", "check its permissions") from error
    if is_empty:
        raise _error(source, f"'{files.show(path)}' is empty", "write its rows first, or name another file")


def _missing(source: InputSource, written: str, path: Path) -> InputError:
    if path.is_symlink():
        return _error(source, f"'{written}' is a link to '{path.readlink()}', which is not there", "mend the link")
    what = f"there is no file '{written}'"
    if "://" in written:
        return _error(source, what, "sundog reads files: download it first, or read it with `call:` (Python)")
    if written.startswith("~"):
        return _error(source, what, "`~` is not expanded: write the whole path")
    return _error(source, what, _near(path))


def _suffix_in(folder: Path) -> str:
    """Return the suffix that most of the files in `folder` have, of those that can be read."""
    names = [entry.name.lower() for entry in folder.iterdir()]
    return max(INPUT_FORMATS, key=lambda suffix: (sum(name.endswith(suffix) for name in names), suffix == ".parquet"))


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    names = [entry.name for entry in path.parent.iterdir() if not entry.name.startswith(".")]
    readable = [name for name in names if any(name.lower().endswith(suffix) for suffix in INPUT_FORMATS)]
    hint = suggest(path.name, names)
    if hint.startswith("did you mean"):
        return hint
    return f"data files in {path.parent}: {', '.join(sorted(readable)[:10]) or 'none'}"


def _error(source: InputSource, what: str, hint: str) -> InputError:
    return InputError(what, where=source.location or f"input '{source.name}'", hint=hint)
