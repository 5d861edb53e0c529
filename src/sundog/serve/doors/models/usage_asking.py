"""The servers that are asked for the tokens of streams, for this process' own accounts, and those that refuse that.

Owns what is remembered of a server. What it says of tokens, the exchange reads.
"""

from __future__ import annotations

import logging
from weakref import WeakSet

from sundog.engines.forwarding import ForwardingEngine

log = logging.getLogger("sundog.serve")
FIELD = "stream_options"
_STATUSES = (400, 422)


class UsageAsking:
    """This class knows which servers take the field that asks for tokens."""

    def __init__(self) -> None:
        self._refusing: WeakSet[ForwardingEngine] = WeakSet()

    def may_ask(self, engine: ForwardingEngine) -> bool:
        """Return whether a server takes the field, as far as is known."""
        return engine not in self._refusing

    def is_refused(self, engine: ForwardingEngine, replica_id: str) -> None:
        """Remember a server that has refused a request with the field, and taken it without."""
        if engine not in self._refusing:
            self._refusing.add(engine)
            what = (
                "the server of %s refuses '%s', and is not asked for the tokens of streams any more: they are unknown"
            )
            log.warning(what, replica_id, FIELD)


def blames_the_asking(status: int, body: bytes) -> bool:
    """Return whether an answer says that a request is wrong, and names the field that asks for tokens."""
    return status in _STATUSES and FIELD.encode() in body
