"""The files in the folder of a run, kept with its log: snapshots of rows, made tables, its plan and event logs.

Owns which files a run has there. What is in them lies beside the logs, each content once, under its digest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import partial
from hashlib import file_digest
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


def fetch_files(store: Store, run_id: str, folder: Path, pattern: str) -> None:
    """Let the folder of a run have its files that fit a pattern, as they were kept, where the state lies at a URL: one
    that is here and another there was made by a process that has been replaced."""
    if store.cache is None:
        return
    for path, digest in _kept(store, run_id):
        if _fits(path, pattern) and not _has(folder / path, digest):
            store.cache.fetch_file(digest, folder / path)


def kept_paths(store: Store, run_id: str, pattern: str) -> list[str]:
    """Return the paths of those files of a run that were kept and fit a pattern, from its folder."""
    return [path for path, _ in _kept(store, run_id) if _fits(path, pattern)]


def drop_unkept(store: Store, run_id: str, folder: Path, pattern: str) -> None:
    """Drop the files of a run's folder that fit a pattern and were never kept, or not any more, where the state lies at
    a URL. Only for whoever has locked the run."""
    if store.cache is not None:
        kept = dict(_kept(store, run_id))
        for file in sorted(folder.glob(pattern)):
            if str(file.relative_to(folder)) not in kept:
                file.unlink()


def content_digest(file: Path) -> str:
    """Return the digest under which the content of a file is kept."""
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _changed(
    cache: StateCache, files: list[tuple[str, str]], run_id: str, folder: Path, pattern: str
) -> Iterator[tuple[StoreStatement, RowValues]]:
    kept = {path: digest for path, digest in files if _fits(path, pattern)}
    for file in sorted(folder.glob(pattern)):
        path = str(file.relative_to(folder))
        if file.is_file() and not file.name.startswith(".") and not _has(file, kept.pop(path, "")):
            digest = content_digest(file)
            cache.put_file(digest, file)
            yield _PUT, (run_id, path, digest, file.stat().st_size)
    for path in kept:
        yield _DROP, (run_id, path)


def _kept(store: Store, run_id: str) -> list[tuple[str, str]]:
    return [*store.select("select path, digest from run_files where run_id = ? order by path", (run_id,))]


def _has(file: Path, digest: str) -> bool:
    return bool(digest) and file.is_file() and content_digest(file) == digest


def _fits(path: str, pattern: str) -> bool:
    return path.count("/") == pattern.count("/") and fnmatch(path, pattern)
