"""Registries filled by entry points, sundog's own entries included.

Owns lookup by name and lazy loading. Never knows what an entry does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Generic, TypeVar, cast

from sundog.errors import ConfigError, suggest

T = TypeVar("T")


class Registry(Generic[T]):
    """Named entries of one entry-point group; an entry is imported when it is first asked for."""

    def __init__(self, group: str, kind: str) -> None:
        self._group = group
        self._kind = kind
        self._loaded: dict[str, T] = {}

    @cached_property
    def _entry_points(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in _installed()(self._group)}

    def names(self) -> tuple[str, ...]:
        return tuple(sorted({*self._entry_points, *self._loaded}))

    def add(self, name: str, entry: T) -> None:
        """Register `entry` in this process only: for notebooks and tests."""
        self._loaded[name] = entry

    def remove(self, name: str) -> None:
        """Take back what `add` registered; an entry that is installed is loaded again when it is next asked for."""
        self._loaded.pop(name, None)

    def get(self, name: str) -> T:
        """Return the entry called `name`; ConfigError when there is none or its import fails."""
        if name not in self._loaded:
            if name not in self._entry_points:
                raise ConfigError(f"unknown {self._kind} '{name}'", hint=suggest(name, self.names()))
            self._loaded[name] = self._load(self._entry_points[name])
        return self._loaded[name]

    def _load(self, entry: EntryPoint) -> T:
        try:
            return cast(T, entry.load())
        except ImportError as error:
            raise ConfigError(
                f"the {self._kind} '{entry.name}' cannot be imported: {error}",
                hint=f"install what it needs (package of the entry: {entry.value})",
            ) from error


@cache
def _installed() -> Callable[[str], EntryPoints]:
    """Return the entry points of all packages, by group: read once for all registries, since that opens a file of
    each."""
    found = entry_points()
    return lambda group: found.select(group=group)
