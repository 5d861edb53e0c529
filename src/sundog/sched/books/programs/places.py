"""The places of programs' contexts: on which replica of each pool the last call of each program ended.

Owns these places, and tells the replicas' contexts what their programs do. An engine's own books know better; a host
that sends calls to engines has only this.
"""

from __future__ import annotations

from sundog.sched.views import ReplicaView, RequestView


class ContextPlaces:
    """This book has at most one place for each program and pool."""

    def __init__(self) -> None:
        self._places: dict[str, dict[str, ReplicaView]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    def arrive(self, request: RequestView) -> None:
        """A call of the program is there."""
        replica = self._places.get(request.workflow_id, {}).get(request.pool)
        if replica is not None:
            replica.contexts.come_back(request.workflow_id)

    def start(self, request: RequestView) -> None:
        """It runs: what it holds is known from now on."""
        self._leave(request.workflow_id, request.pool)

    def end(self, request: RequestView, replica: ReplicaView, arrival_s: float, num_tokens: int, time_s: float) -> None:
        """It has ended on `replica`, and another may come. `arrival_s` is its program's."""
        self._leave(request.workflow_id, request.pool)
        self._places.setdefault(request.workflow_id, {})[request.pool] = replica
        replica.contexts.go_away(request.workflow_id, arrival_s, num_tokens, time_s)

    def forget(self, program: str) -> None:
        """The program is known to ask no more."""
        for pool in list(self._places.get(program, ())):
            self._leave(program, pool)

    def forget_replica(self, replica: ReplicaView) -> None:
        for program, places in list(self._places.items()):
            if places.get(replica.pool) is replica:
                self._leave(program, replica.pool)

    def _leave(self, program: str, pool: str) -> None:
        places = self._places.get(program, {})
        replica = places.pop(pool, None)
        if replica is not None:
            replica.contexts.remove(program)
            if not places:
                del self._places[program]
