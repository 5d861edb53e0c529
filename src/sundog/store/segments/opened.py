"""The caches of states at URLs that this process has opened, by their folders.

Owns that list. It imports nothing of what a cache needs, since every command asks it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from sundog.errors import UserError
from sundog.store.writer import ChangeLog

LOCK_FILE = "cache.lock"
"""The file by which a folder is known as a cache; whoever has locked it has the cache."""
OPENED: dict[Path, StateCache] = {}


class OpenLog(ChangeLog, Protocol):
    """A log that this process writes to."""

    def close(self) -> None:
        """Send what is left. StoreError where that cannot be."""
        ...


class StateCache(Protocol):
    """The cache of a state at a URL."""

    @property
    def url(self) -> str: ...

    def take(self, name: str) -> OpenLog:
        """Become the one process that writes to a log; the logs beside it are sealed. UserError where another one
        does."""
        ...

    def release(self, name: str) -> None:
        """Forget that this process writes to a log."""
        ...

    def put_file(self, digest: str, path: Path) -> None:
        """Keep the content of a file where the logs lie, under its digest."""
        ...

    def fetch_file(self, digest: str, path: Path) -> None:
        """Make a file of a content that was kept. StoreError where it is not there."""
        ...

    def at_work(self, names: Iterable[str]) -> set[str]:
        """Return the logs to which another process writes; those of which nobody has said that it stopped are watched
        for some seconds, all at once."""
        ...

    def logs_beside(self, name: str) -> list[str]:
        """Return the logs of the cells and owners of the run that a log is of."""
        ...

    def read(self, names: Iterable[str]) -> None:
        """Take in what some logs hold."""
        ...

    def seal(self, name: str) -> None:
        """Let nobody write to a log any more, and take in what it holds. Whoever writes there finds out with the next
        segment."""
        ...

    def epoch(self, name: str) -> str:
        """Return the epoch of whoever writes to a log, or has written there last, as was read."""
        ...

    def put_scratch(self, name: str, body: bytes) -> None:
        """Keep an object that others read while a run lasts."""
        ...

    def scratch(self, name: str) -> bytes:
        """Return such an object. StoreError where it is not there."""
        ...

    def drop_scratch(self, folder: str) -> None:
        """Drop the objects of a folder."""
        ...

    def catch_up(self) -> None:
        """Take in what others have written. StoreError where the storage cannot be read."""
        ...


def state_cache(folder: Path) -> StateCache | None:
    """Return the cache that a folder is; None for a folder that is a state itself. UserError for a cache that was not
    opened by its URL."""
    found = OPENED.get(folder)
    if found is None and (folder / LOCK_FILE).exists():
        raise UserError(f"{folder} is a cache of a state", hint="name the URL of that state with --state")
    return found
