"""The connections that calls hold to one database: where the server has no more to give, a call waits for one of these.

Owns the count of them, and who is woken. Never opens one by itself, nor says how many there may be: the pool does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from sundog.operators.sql.faults import is_server_full

CALLS_OF_A_TRY = 16
"""Where calls wait, one in so many asks the server all the same: it may have room again."""


class HeldConnections:
    """This class lends the connections of `engine` to threads. A server may take fewer than the pool has: then calls
    share those that there are. Where no call holds one, or is about to, the server's refusal is the call's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = Condition()
        # Active calls hold a connection or ask for one; those that wait do neither.
        self._num_active = self._num_waiting = 0
        # However a call ended, it may have left a connection behind.
        self._num_ended = 0

    @contextmanager
    def lent(self, is_stopped: Callable[[], bool]) -> Iterator[Connection]:
        """Yield a connection, which goes back to the pool afterwards. DBAPIError where there is none to be had, or the
        call is stopped while it waits (`wake` must follow)."""
        with self._changed:
            self._num_active += 1
        try:
            with self._connect(is_stopped) as connection:
                yield connection
        finally:
            with self._changed:
                self._num_active -= 1
                self._num_ended += 1
                # The one that has waited longest takes what this one has left.
                self._changed.notify()

    def wake(self) -> None:
        """Let those that wait look whether they are stopped."""
        with self._changed:
            self._changed.notify_all()

    def _connect(self, is_stopped: Callable[[], bool]) -> Connection:
        with self._changed:
            # Whoever ends wakes one of those that wait, so that this one's turn comes.
            if self._num_waiting and self._num_ended % CALLS_OF_A_TRY:
                self._wait(self._num_ended, is_stopped)
        while True:
            with self._changed:
                num_ended = self._num_ended
            try:
                return self._engine.connect()
            except DBAPIError as error:
                if not is_server_full(error) or not self._is_worth_a_wait(num_ended, is_stopped):
                    raise

    def _is_worth_a_wait(self, num_ended: int, is_stopped: Callable[[], bool]) -> bool:
        """Wait until more than `num_ended` calls have ended; False where no other can, or this one is stopped."""
        with self._changed:
            if self._num_active > 1:
                self._wait(num_ended, is_stopped)
            return self._num_ended > num_ended and not is_stopped()

    def _wait(self, num_ended: int, is_stopped: Callable[[], bool]) -> None:
        self._num_active -= 1
        self._num_waiting += 1
        self._changed.wait_for(lambda: self._num_ended > num_ended or is_stopped())
        self._num_waiting -= 1
        self._num_active += 1
