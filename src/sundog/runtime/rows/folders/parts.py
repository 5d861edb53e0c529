"""Rows into the parts of a folder, and the manifest that makes them the result.

Owns the order of it: parts, manifest, then away with what it does not list. Readers of the manifest see one result
whole or none, whenever a process is killed. Never holds more than a piece of a part in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import file_digest
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import to_json

from sundog.errors import ConfigError, RunError
from sundog.runtime.rows.folders.manifest import (
    PARTS_ERRORS,
    Manifest,
    OutputPart,
    part_name,
    read_manifest,
    run_of_part,
)
from sundog.runtime.rows.folders.output_folder import OutputFolder, PartOwner
from sundog.runtime.rows.folders.places import KeptManifest, PartsPlace, StoragePlace, place_of
from sundog.runtime.rows.formats.json_file import write_jsonl
from sundog.runtime.rows.formats.stored_rows import SizedRow, StoredRows, parsed
from sundog.runtime.rows.whole_file import whole_file

MAX_PART_ROWS = 250_000
MAX_PART_BYTES = 256 * 2**20
"""The bytes of the JSON of a part's rows, but for its last row."""

WritePart = Callable[[BinaryIO, Iterator[SizedRow]], None]


def check_folder(folder: OutputFolder, run_id: str) -> None:
    """Say before the first call what would go wrong at the end: ConfigError where another run has written into the
    folder, StoreError where a URL cannot be written."""
    place = place_of(folder)
    _own_manifest(folder, place, run_id)
    for name in place.names():
        other = run_of_part(name)
        if other not in (None, run_id):
            raise ConfigError(
                f"the folder {folder} has parts of run {other}, which did not finish its output",
                hint=f"repeat the command of that run, name another folder, or remove {folder.file('part-*')}",
            )
    if isinstance(place, StoragePlace):
        place.check_writable()


def write_parts(folder: OutputFolder, owner: PartOwner, columns: Sequence[str], rows: StoredRows) -> tuple[str, ...]:
    """Make `columns` of all rows the result that the folder holds, in place of what the run has written there before;
    returns warnings, one sentence each. ConfigError where it holds another run's."""
    place = place_of(folder)
    before = _own_manifest(folder, place, owner.run_id)
    there = {name for name in place.names() if run_of_part(name) == owner.run_id}
    write, warnings = _writer(folder, columns, rows)
    parts: list[OutputPart] = []
    for number, some in enumerate(_ranges(parsed(rows()))):
        with place.scratch(owner.run_id) as file:
            parts.append(part := _written(folder, number, owner.run_id, file, write, some))
            if part.name not in there:
                place.put(part.name, file)
    num_rows = sum(part.num_rows for part in parts)
    manifest = Manifest(
        run_id=owner.run_id,
        table=owner.table,
        format=folder.format,
        columns=tuple(columns),
        num_rows=num_rows,
        parts=tuple(parts),
    )
    _commit(folder, place, manifest, before)
    for name in sorted(there - {part.name for part in parts}):
        place.drop(name)
    return warnings


def write_folder_errors(folder: OutputFolder, failures: Iterable[Mapping[str, Any]]) -> str | None:
    """Write one JSON line per failure beside the parts, and return where; without failures there is no file, an old one
    goes."""
    place, remaining = place_of(folder), iter(failures)
    first = next(remaining, None)
    if first is None:
        place.drop(PARTS_ERRORS)
        return None
    with place.scratch(PARTS_ERRORS) as file:
        with whole_file(file) as stream:
            for failure in chain([first], remaining):
                stream.write(to_json(failure) + b"\n")
        place.put(PARTS_ERRORS, file)
    return folder.file(PARTS_ERRORS)


def _own_manifest(folder: OutputFolder, place: PartsPlace, run_id: str) -> KeptManifest | None:
    """Return the manifest that the run itself has made; ConfigError for another run's."""
    found = place.manifest()
    if found is not None and (other := read_manifest(folder, found.body).run_id) != run_id:
        raise ConfigError(
            f"the folder {folder} holds the output of run {other}, and this is another run",
            hint="name another folder, or remove that one; the same command, without --fresh and with an unchanged "
            "flow and input, is the same run",
        )
    return found


def _commit(folder: OutputFolder, place: PartsPlace, manifest: Manifest, before: KeptManifest | None) -> None:
    body = manifest.encoded()
    if before is not None and before.body == body:
        return
    if place.commit(body, before):
        return
    # A request that was tried again may have made it the first time.
    found = _own_manifest(folder, place, manifest.run_id)
    if found is None or found.body != body:
        raise RunError(
            f"another process has changed the manifest in {folder} meanwhile",
            hint="see that only one works on this run, then repeat the command: no call is made again",
        )


def _writer(folder: OutputFolder, columns: Sequence[str], rows: StoredRows) -> tuple[WritePart, tuple[str, ...]]:
    """Return what writes some of the rows, all parts alike, and the warnings. Parquet looks at all rows first."""
    if folder.format == "jsonl":
        return lambda stream, some: write_jsonl(stream, columns, some), ()
    from sundog.runtime.rows.formats.parquet_file import parquet_form, write_formed

    form = parquet_form(columns, parsed(rows()))
    return lambda stream, some: write_formed(stream, form, some), form.warnings


def _written(
    folder: OutputFolder, number: int, run_id: str, file: Path, write: WritePart, rows: Iterator[SizedRow]
) -> OutputPart:
    num_rows = 0

    def counted() -> Iterator[SizedRow]:
        nonlocal num_rows
        for row in rows:
            num_rows += 1
            yield row

    with whole_file(file) as stream:
        write(stream, counted())
    with file.open("rb") as written:
        digest = file_digest(written, "sha256").hexdigest()
    name = part_name(number, run_id, digest, folder.format)
    return OutputPart(name=name, num_rows=num_rows, num_bytes=file.stat().st_size, sha256=digest)


def _ranges(rows: Iterator[SizedRow]) -> Iterator[Iterator[SizedRow]]:
    """Yield the rows of each part, which are to be read before the next part is asked for; one part at least, since a
    reader of the parts wants the columns also where there are no rows."""
    first = next(rows, None)
    yield _range(first, rows) if first is not None else iter(())
    for one in rows:
        yield _range(one, rows)


def _range(first: SizedRow, rows: Iterator[SizedRow]) -> Iterator[SizedRow]:
    num_rows, num_bytes = 1, first[1]
    yield first
    while num_rows < MAX_PART_ROWS and num_bytes < MAX_PART_BYTES and (row := next(rows, None)) is not None:
        num_rows, num_bytes = num_rows + 1, num_bytes + row[1]
        yield row
