"""Ctrl-C and SIGTERM: the first drains, the second stops at once.

Owns the two signals while a run is executed. Never touches the run's books: what is committed is committed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 3.0


class Interrupt:
    """Installed on the running loop. `signal_number`: the first signal that came, None while there was none."""

    def __init__(self, drain: Callable[[], None], say: Callable[[str], None]) -> None:
        self._drain = drain
        self._say = say
        self._task = asyncio.current_task()
        self.signal_number: int | None = None
        self._is_cancelled = False
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._received, number)

    def remove(self) -> None:
        for number in SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _received(self, number: int) -> None:
        if self.signal_number is None:
            self.signal_number = number
            self._say("stopping: calls that run are finished and kept, no others start; once more stops at once")
            self._drain()
        elif not self._is_cancelled:
            self._is_cancelled = True
            self._say("stopping at once")
            assert self._task is not None
            self._task.cancel()
            self._leave_after_grace(128 + number)

    def _leave_after_grace(self, exit_code: int) -> None:
        """A thread of the user's function or of an engine cannot be cancelled; what is committed does not need it."""
        timer = threading.Timer(GRACE_S, os._exit, (exit_code,))
        timer.daemon = True
        timer.start()
