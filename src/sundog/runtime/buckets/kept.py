"""The rows of a table in files of the run's folder, in reading order: whoever goes on with the run reads those.

Owns the folder of a table's buckets and its index. Never decides which rows are wanted, or in which order.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from sundog.errors import StoreError
from sundog.execution.input_row import IdentifiedRows
from sundog.ir.row_ids import RowId
from sundog.ir.templates.template import Path as ValuePath
from sundog.private_files import FILE_MODE, make_private_folder, open_private
from sundog.runtime.buckets.files import BucketFile, BucketWriter
from sundog.runtime.rows.whole_file import told_failures, whole_file

T = TypeVar("T")

_INDEX = "index.json"


class _Index(BaseModel):
    """The content of a folder that was written to its end."""

    model_config = ConfigDict(frozen=True)

    order: tuple[ValuePath, ...]
    num_rows: int
    #: Each with its bytes, in reading order.
    files: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class KeptBuckets:
    """The rows of a table, as `BucketMaker` has written them."""

    folder: Path
    #: The values by which the rows are read.
    order: tuple[ValuePath, ...]
    num_rows: int
    files: tuple[str, ...]

    async def batches(self, have_ended: Callable[[Sequence[RowId]], bool]) -> AsyncIterator[IdentifiedRows]:
        """Yield the rows, bucket by bucket; a bucket whose rows `have_ended` is passed over. StoreError where a file
        cannot be read."""
        for name in self.files:
            with _read(self.folder / name) as file:
                ids = file.ids()
                while (some := await asyncio.to_thread(_next, ids, self.folder / name)) is not None:
                    if not have_ended(some):
                        break
                else:
                    continue
                rows = file.rows()
                while (batch := await asyncio.to_thread(_next, rows, self.folder / name)) is not None:
                    yield batch


class BucketMaker:
    """Writes the rows of a table, which come in reading order, into a new folder of buckets. A context manager: what is
    open is closed in the end. RunError where the disk is full."""

    def __init__(self, folder: Path, num_rows_of_bucket: int, order: Sequence[ValuePath]) -> None:
        """`num_rows_of_bucket`: 1 or more; groups of rows are cut anywhere, since one process runs all buckets."""
        self._folder = folder
        self._order = tuple(order)
        self._num_rows_of_bucket = num_rows_of_bucket
        self._open = ExitStack()
        self._writer: BucketWriter | None = None
        self._files: list[str] = []
        self._num_rows = 0
        with told_failures(str(folder)):
            # What a killed process left has no index.
            shutil.rmtree(folder, ignore_errors=True)
            make_private_folder(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, rows: IdentifiedRows) -> None:
        """Write the next rows."""
        with told_failures(str(self._folder)):
            for row_id, row in rows:
                if self._writer is None or self._num_rows % self._num_rows_of_bucket == 0:
                    self._writer = self._next_file()
                self._writer.add(row_id, row, None)
                self._num_rows += 1

    def finish(self) -> KeptBuckets:
        """Write the index, with which the folder counts."""
        with told_failures(str(self._folder)):
            self._open.close()
            for name in self._files:
                with (self._folder / name).open("rb") as file:
                    os.fsync(file.fileno())
            files = tuple((name, (self._folder / name).stat().st_size) for name in self._files)
            index = _Index(order=self._order, num_rows=self._num_rows, files=files)
            with whole_file(self._folder / _INDEX, FILE_MODE) as stream:
                stream.write(index.model_dump_json().encode())
        return KeptBuckets(self._folder, self._order, self._num_rows, tuple(self._files))

    def _next_file(self) -> BucketWriter:
        self._open.close()
        name = f"{len(self._files):05d}.parquet"
        self._files.append(name)
        descriptor = open_private(self._folder / name, os.O_WRONLY | os.O_TRUNC)
        return self._open.enter_context(BucketWriter(self._open.enter_context(os.fdopen(descriptor, "wb"))))


def kept_buckets(folder: Path) -> KeptBuckets | None:
    """Return the buckets that a folder keeps; None where it was not written to its end, or a file of it is gone.
    StoreError where its index cannot be read."""
    try:
        index = _Index.model_validate_json((folder / _INDEX).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise _damaged(folder / _INDEX) from error
    try:
        if any((folder / name).stat().st_size != size for name, size in index.files):
            return None
    except FileNotFoundError:
        return None
    return KeptBuckets(folder, index.order, index.num_rows, tuple(name for name, _ in index.files))


@contextmanager
def _read(path: Path) -> Iterator[BucketFile]:
    try:
        file = BucketFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(path) from error
    try:
        yield file
    finally:
        file.close()


def _next(pieces: Iterator[T], path: Path) -> T | None:
    try:
        return next(pieces, None)
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> StoreError:
    hint = "remove its folder and repeat the command: the rows are read from the input again"
    return StoreError(f"the rows in {path} cannot be read", hint=hint)
