"""The root of each session: agents that a session starts have sessions of their own, and share its place.

Owns a bounded book of parents. Never knows what a session does.
"""

from __future__ import annotations

from collections import OrderedDict

MAX_DEPTH = 64
"""The most steps from a session to its root; a longer way, or a circle, ends there."""


class Lineage:
    """This class remembers the parents of at most `max_sessions` sessions; the oldest ones are forgotten first. A
    session that asks for something is young again, and so are those above it."""

    def __init__(self, max_sessions: int) -> None:
        self._max_sessions = max_sessions
        self._parents: OrderedDict[str, str] = OrderedDict()

    def root(self, session: str, parent: str) -> str:
        """Return the root of a session, of which a request has just come. `parent`: empty where none is told; one that
        was told before still holds. A session never becomes its own forebear: such a parent is let be."""
        if parent and parent != session and not self._is_below(parent, session):
            self._parents[session] = parent
        for one in reversed(self._way(session)[:-1]):
            self._parents.move_to_end(one)
        if len(self._parents) > self._max_sessions:
            self._parents.popitem(last=False)
        return self._way(session)[-1]

    def forget(self, session: str) -> None:
        """Forget the parent of a session that has ended."""
        self._parents.pop(session, None)

    def __len__(self) -> int:
        return len(self._parents)

    def _is_below(self, session: str, other: str) -> bool:
        return other in self._way(session)

    def _way(self, session: str) -> list[str]:
        """Return the sessions from one to its root."""
        way = [session]
        while len(way) <= MAX_DEPTH and way[-1] in self._parents:
            way.append(self._parents[way[-1]])
        return way
