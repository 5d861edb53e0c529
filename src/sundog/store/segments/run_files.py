"""The files in the folder of a run, kept with its log: snapshots of rows, made tables, its plan and event logs.

Owns which files a run has there. What is in them lies beside the logs, each content once, under its digest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from sundog.store.segments.opened import StateCache
from sundog.store.statements import RowValues, StoreStatement
from sundog.store.store import Store

_PUT = StoreStatement("put_run_file", "insert or replace into run_files values {}")
_DROP = StoreStatement("drop_run_file", "delete from run_files where run_id = ? and path = ?")


def keep_files(store: Store, run_id: str, folder: Path, pattern: str) -> None:
    """Make the files of a run's folder that fit a pattern outlive this machine, where the state lies at a URL. Those
    that are gone are so there too."""
    if store.cache is not None:
        changes = list(_changed(store.cache, _kept(store, run_id), run_id, folder, pattern))
        if changes:
            store.change(*changes)


async def keep_files_meanwhile(store: Store, run_id: str, folder: Path, pattern: str) -> None:
    """Do as `keep_files` does while rows run."""
    if store.cache is not None:
        kept = _kept(store, run_id)
        found = partial(_changed, store.cache, kept, run_id, folder, pattern)
        changes = await asyncio.to_thread(lambda: list(found()))
        if changes:
            await store.write(*changes)


def fetch_files(store: Store, run_id: str, folder: Path) -> None:
    """Fetch what the folder of a run lacks of its files, where the state lies at a URL."""
    if store.cache is None:
        return
    for path, digest, num_bytes in _kept(store, run_id):
        if not _has(folder / path, num_bytes):
            store.cache.fetch_file(digest, folder / path)


def _changed(
    cache: StateCache, files: list[tuple[str, str, int]], run_id: str, folder: Path, pattern: str
) -> Iterator[tuple[StoreStatement, RowValues]]:
    kept = {path: num_bytes for path, _, num_bytes in files if _fits(path, pattern)}
    for file in sorted(folder.glob(pattern)):
        path = str(file.relative_to(folder))
        if file.is_file() and not file.name.startswith(".") and not _has(file, kept.pop(path, -1)):
            digest = cache.put_file(file)
            yield _PUT, (run_id, path, digest, file.stat().st_size)
    for path in kept:
        yield _DROP, (run_id, path)


def _kept(store: Store, run_id: str) -> list[tuple[str, str, int]]:
    found = store.select("select path, digest, num_bytes from run_files where run_id = ? order by path", (run_id,))
    return [(path, digest, num_bytes) for path, digest, num_bytes in found]


def _has(file: Path, num_bytes: int) -> bool:
    return file.is_file() and file.stat().st_size == num_bytes


def _fits(path: str, pattern: str) -> bool:
    return path.count("/") == pattern.count("/") and fnmatch(path, pattern)
