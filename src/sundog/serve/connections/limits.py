"""The limits of connections: how many there are, how large heads and bodies are, and how slow a client may
be. Pure.

Owns these figures and what follows from them. Never touches a connection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

FILES_BESIDE = 256
"""Files that a server has open beside its connections."""
FILES_FOR_EACH = 2
"""A call that is forwarded has a connection of its own."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits of one server."""

    #: Connections that are open; who comes beyond is told 503, and his connection is closed.
    max_connections: int = 4096
    #: The names and values of a request's headers, and its address.
    max_header_bytes: int = 64 * 1024
    #: The bodies of all requests that are worked on, together; one that comes beyond is told 503.
    max_bodies_bytes: int = 512 * 2**20
    #: A client that sends a request, or has a backlog of its answer to read, does at least `min_bytes_per_s` in each
    #: stretch of so many seconds, or ends what it does within one.
    max_slow_s: float = 60.0
    min_bytes_per_s: float = 1024.0
    #: A client that goes on to send a body after its answer is there is let go after so many seconds.
    max_linger_s: float = 5.0

    @property
    def num_files(self) -> int:
        """Return how many files the server may have open at once."""
        return FILES_BESIDE + FILES_FOR_EACH * self.max_connections

    @property
    def look_s(self) -> float:
        """Return the seconds between two looks at all connections."""
        return min(self.max_slow_s, self.max_linger_s) / 10

    def within(self, num_files: int) -> Self:
        """Return the limits of a server that may open so many files.

        >>> ConnectionLimits().within(1024).max_connections
        384
        """
        room = max(1, (num_files - FILES_BESIDE) // FILES_FOR_EACH)
        return replace(self, max_connections=min(self.max_connections, room))


class Pace:
    """This class judges how fast bytes pass, from the moment at which they are first expected.

    >>> pace, limits = Pace(0.0, 0), ConnectionLimits(max_slow_s=10.0, min_bytes_per_s=5.0)
    >>> [pace.is_too_slow(at_s, num_bytes, limits) for at_s, num_bytes in ((9.0, 49), (10.0, 49), (10.0, 50))]
    [False, True, False]
    >>> [pace.is_too_slow(at_s, 60, limits) for at_s in (19.0, 20.0)]
    [False, True]
    """

    __slots__ = ("_num_bytes", "_since_s")

    def __init__(self, now_s: float, num_bytes: int) -> None:
        self._since_s = now_s
        self._num_bytes = num_bytes

    def is_too_slow(self, now_s: float, num_bytes: int, limits: ConnectionLimits) -> bool:
        """Return whether fewer bytes have passed than must have. `num_bytes`: all so far."""
        if num_bytes - self._num_bytes >= limits.min_bytes_per_s * limits.max_slow_s:
            self._since_s, self._num_bytes = now_s, num_bytes
        return now_s - self._since_s >= limits.max_slow_s
