"""Modelled time: batches of a size that this machine cannot run.

Owns how long the modelled engines' steps last, and an event loop that does not wait.
In modelled time the engines' steps and the HTTP server's latency pass as modelled; databases, commits and the
coordinator's own processor time take none, so that a busy machine changes nothing. Processor time is reported beside.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from sundog.engines.null_steps import StepSeconds

# Round numbers of the order of a 30-billion-parameter model on one data-centre GPU; not measured.
STEP_TIME: StepSeconds = (2.5e-2, 1e-4, 1.5e-4, 5e-8, 5e-9)
MAX_STEP_TOKENS = 2048
# A thread's result, or a socket's, may be on its way when the loop has nothing to do.
GRACE_S = 5e-4

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _SkippingSelector(selectors.DefaultSelector):
    """Jumps to the next timer when nothing is ready and no thread works."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.num_threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if ready := super().select(0):
            return ready
        if timeout is not None and timeout <= 0:
            return []
        if timeout is None or self.num_threads:
            return super().select()
        # Threads that no executor of this loop knows, such as the one that commits results.
        while not (ready := super().select(GRACE_S)) and _other_threads_work():
            """What it finishes wakes the loop."""
        if not ready:
            self.now_s += timeout
        return ready


def _other_threads_work() -> bool:
    """Whether any other thread of this process runs or waits for the disk; an idle one sleeps."""
    own = str(threading.get_native_id())
    for path in Path("/proc/self/task").iterdir():
        if path.name != own and (path / "stat").read_text().rpartition(")")[2].split()[0] in ("R", "D"):
            return True
    return False


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop in modelled time."""

    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now_s

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        self._skipping.num_threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, future: asyncio.Future[Any]) -> None:
        self._skipping.num_threads -= 1
