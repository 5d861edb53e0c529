"""An event loop in virtual time: its clock jumps to the next timer instead of waiting for it.

Owns the clock. Sleeping costs nothing and is exact, so that a batch of hours is driven in seconds, the same each time.
What the loop gives to threads runs in the loop, at once: results then come in the order of the calls.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple, Unpack

GRACE_S = 5e-4
"""A thread's result, or a socket's, may be on its way when the loop has nothing to do."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _JumpingSelector(selectors.DefaultSelector):
    """Jumps when nothing is ready."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; where nothing is, move the clock on by `timeout` in place of waiting."""
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everything waits and nothing will come"
            self.now_s += max(0.0, timeout)
        return ready


class _PatientSelector(_JumpingSelector):
    """Jumps when nothing is ready and no other thread works."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready. Where nothing is, wait for as long as another thread of the process works, and then
        move the clock on by `timeout`."""
        wait = selectors.DefaultSelector.select
        if ready := wait(self, 0):
            return ready
        if timeout is None:
            return wait(self)
        if timeout <= 0:
            return []
        while True:
            before = _other_threads()
            if ready := wait(self, GRACE_S):
                return ready
            # One that waits for Python's lock sleeps too, but not while this one waits.
            if before == _other_threads() and all(is_asleep for _, is_asleep, _ in before):
                self.now_s += timeout
                return []


def _other_threads() -> list[tuple[str, bool, str]]:
    """Return of each other thread of this process its number, whether it sleeps, and how often it has (Linux)."""
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


class _Moment(float):
    """A time that stands behind equal ones with smaller numbers."""

    __slots__ = ("number",)
    number: int

    def __lt__(self, other: float) -> bool:
        if isinstance(other, _Moment) and float.__eq__(self, other):
            return self.number < other.number
        return float.__lt__(self, other)


class VirtualLoop(asyncio.SelectorEventLoop):
    """This event loop runs on virtual time: where everything waits, its clock jumps. `waits_for_threads`: other threads
    and processes work for this loop, through sockets or in their own time; the clock stands still until they have
    nothing to do."""

    def __init__(self, *, waits_for_threads: bool = False) -> None:
        self._selector_of_time = _PatientSelector() if waits_for_threads else _JumpingSelector()
        self._num_timers = 0
        super().__init__(self._selector_of_time)

    def time(self) -> float:
        return self._selector_of_time.now_s

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call back at that time. Timers of one moment fire in the order in which they were set: asyncio's own order
        would depend on what other timers there are."""
        moment = _Moment(when)
        moment.number = self._num_timers = self._num_timers + 1
        return super().call_at(moment, callback, *args, context=context)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run `func` here and now: on virtual time no other thread is to change the order of things."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def run_virtually(main: Coroutine[Any, Any, T], *, waits_for_threads: bool = False) -> T:
    """Run `main` as `asyncio.run` does, in virtual time; in a thread of its own where this one has a running loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run_here(main, waits_for_threads=waits_for_threads)
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(_run_here, main, waits_for_threads=waits_for_threads).result()


def _run_here(main: Coroutine[Any, Any, T], *, waits_for_threads: bool) -> T:
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(waits_for_threads=waits_for_threads)) as runner:
        return runner.run(main)
