"""Modelled time: batches of a size that this machine cannot run.

Owns how long the modelled engines' steps last, and an event loop that does not wait.
In modelled time the engines' steps and the HTTP server's latency pass as modelled; databases, commits and the
coordinator's own processor time take none, so that a busy machine changes nothing. Processor time is reported beside.
What the loop gives to threads runs in the loop, at once: results then come in the order of the calls, every time.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from sundog.engines.null_steps import StepSeconds

# Round numbers of the order of a 30-billion-parameter model on one data-centre GPU; not measured.
STEP_TIME: StepSeconds = (2.5e-2, 1e-4, 1.5e-4, 5e-8, 5e-9)
MAX_STEP_TOKENS = 2048
# Its weights, 60 GB, from the memory of the host. Every arm's engines are loaded within its time.
LOAD_S = 1.5
# A thread's result, or a socket's, may be on its way when the loop has nothing to do.
GRACE_S = 5e-4

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _SkippingSelector(selectors.DefaultSelector):
    """Jumps to the next timer when nothing is ready and no thread works."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if ready := super().select(0):
            return ready
        if timeout is None:
            return super().select()
        if timeout <= 0:
            return []
        while True:
            before = _other_threads()
            if ready := super().select(GRACE_S):
                return ready
            # One that waits for Python's lock sleeps too, but not while this one waits.
            if before == _other_threads() and all(is_asleep for _, is_asleep, _ in before):
                self.now_s += timeout
                return []


def _other_threads() -> list[tuple[str, bool, str]]:
    """Of each other thread of this process: its number, whether it sleeps, and how often it has."""
    own = str(threading.get_native_id())
    found = []
    for path in Path("/proc/self/task").iterdir():
        # One that has ended since is no thread of this process any more.
        with suppress(FileNotFoundError, ProcessLookupError):
            if path.name != own:
                lines = (path / "status").read_text().splitlines()
                facts = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
                found.append((path.name, facts["State"].startswith("S"), facts["voluntary_ctxt_switches"]))
    return found


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop in modelled time."""

    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now_s

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future
