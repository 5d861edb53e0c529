"""Answers that equal calls of models have in common: in flight, and of all that were made before.

Owns the one commit of each answer. Never decides which calls are equal; the doors do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sundog.engines.base import Usage
from sundog.execution.calls.in_flight import InFlight, LeaderLeft
from sundog.ir.values.normal_form import encode
from sundog.store.store import NO_USAGE, Store

MakeAnswer = Callable[[], Awaitable[tuple[object, Usage | None]]]
"""Gives an answer in JSON types and its tokens."""


class SharedAnswers:
    """This class answers calls that are functions of their requests."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        self._in_flight: InFlight[object] = InFlight()
        #: Calls that were answered without being made.
        self.num_reused = 0

    async def answer(self, key: bytes, model: str, make: MakeAnswer) -> object:
        """Return the answer of a key: a committed one, that of an equal call in flight, or the one that `make` gives,
        committed. What `make` raises is the failure of all that have joined."""
        stored = await self._store.get(key)
        if stored is not None:
            self.num_reused += 1
            return stored.value
        while (leader := self._in_flight.get(key)) is not None:
            try:
                found = await leader.answer()
            except LeaderLeft:
                continue
            self.num_reused += 1
            return found
        with self._in_flight.leading(key) as leading:
            answer, usage = await make()
            first = await self._store.put(key, self._run_id, model, encode(answer), usage or NO_USAGE)
            if first is not None:
                answer = first.value
            leading.succeed(answer)
            return answer
