"""How long a run that is at work waits for its storage.

Owns that time, and that between two tries. What a command does first of all is not patient: an address that is wrong
is told at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from sundog.store.segments.storage import StorageFailed

PATIENCE_S = 300.0
"""The run ends where the storage does not do something for so long."""
MAX_WAIT_S = 15.0
"""Between two tries."""
T = TypeVar("T")


def patiently(ask: Callable[[], T]) -> T:
    """Ask the storage until it answers; its last failure, a StorageFailed, passes through after PATIENCE_S. `ask` may
    be done again where it has failed half-way."""
    begin_s, wait_s = time.monotonic(), 0.25
    while True:
        try:
            return ask()
        except StorageFailed:
            if time.monotonic() - begin_s > PATIENCE_S:
                raise
        time.sleep(wait_s * random.uniform(0.5, 1.0))
        wait_s = min(wait_s * 2, MAX_WAIT_S)
