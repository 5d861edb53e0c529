"""Keys of a state folder, as another process makes them, and the clock by which a server remembers them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sundog.access.api_keys import APIKeys
from sundog.access.principal import KeyTerms
from sundog.store.store import Store


@contextmanager
def kept_keys(state_dir: Path) -> Iterator[APIKeys]:
    """The keys of a state folder, as another process has them."""
    store = Store(state_dir)
    try:
        yield APIKeys(store)
    finally:
        store.close()


def added(state_dir: Path, name: str, tenant: str = "", **terms: Any) -> str:
    with kept_keys(state_dir) as keys:
        return keys.add(name, tenant or name, KeyTerms(**terms))[0]


class Clock:
    """The time of the guard, which a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_s = 0.0
        clock = SimpleNamespace(
            time=lambda: time.time() + self.ahead_s, monotonic=lambda: time.monotonic() + self.ahead_s
        )
        monkeypatch.setattr("sundog.serve.guard.time", clock)
