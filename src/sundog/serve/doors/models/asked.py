"""The head of a request, read once: its headers, the session that its address names, and whose key it came with.

Owns the form in which the door of models hands these on. Never reads a body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.types import Scope

from sundog.sched.facts import Tier
from sundog.serve.guard import owner_of, principal_of
from sundog.serve.seeing.request_log import notes_of


class AskedHead:
    """The head of one request. Names of headers are in small letters, as ASGI has them."""

    __slots__ = ("all_headers", "headers", "notes", "owner", "path_session", "principal", "tier")

    def __init__(self, scope: Scope, tier: Tier | None = None) -> None:
        #: In the order in which they came, also those that came several times.
        self.all_headers: Sequence[tuple[str, str]] = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
        ]
        #: By name; the first one counts.
        self.headers: Mapping[str, str] = dict(reversed(self.all_headers))
        #: None for an address without one.
        self.path_session: str | None = scope.get("path_params", {}).get("session")
        #: None where the server has no keys.
        self.principal = principal_of(scope)
        #: The id of that key: all that the request begins belongs to it.
        self.owner = owner_of(scope)
        #: The notes for the log.
        self.notes = notes_of(scope)
        #: The class of service that it has, whatever it tells; None where that is its own to say.
        self.tier = tier
