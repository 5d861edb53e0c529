"""How a test waits for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(holds: Callable[[], object], within_s: float = 60.0) -> None:
    """Return once something holds; an AssertionError where it does not in time."""
    end_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end_s, f"it does not come to that in {within_s:.0f} s"
        time.sleep(0.01)
