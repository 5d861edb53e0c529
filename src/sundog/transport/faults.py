"""Why an exchange failed, in words that hold no part of its address and no credential.

Owns the exceptions of this room. Never says what a failure means for a call: engines and operators do.
"""

from __future__ import annotations


class TransportFault(Exception):
    """An exchange failed. `what` is a phrase without a subject, as in "the connection broke"; `hint` says what to do.
    `is_sent`: the first byte of the request may have left this machine, so the other side may have acted."""

    is_sent = False

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class BadAddress(TransportFault):
    """A URL or a header cannot be sent. Nothing of its value is told."""


class Unreachable(TransportFault):
    """No connection could be made."""


class ConnectTimeout(Unreachable):
    """No connection was made in time: the look-up of the name, TCP, TLS and a proxy's consent together."""


class Untrusted(Unreachable):
    """TLS with the server failed: an unknown authority, another name, a certificate that has ended."""


class ProxyFault(Unreachable):
    """The proxy is not there, or refuses."""


class Broken(TransportFault):
    """The connection ended before the answer was whole. `is_silent`: not a byte of the answer had come."""

    is_sent = True

    def __init__(self, what: str, *, hint: str | None = None, is_silent: bool = False) -> None:
        super().__init__(what, hint=hint)
        self.is_silent = is_silent


class Silent(TransportFault):
    """Nothing came for as long as the request allows."""

    is_sent = True


class Damaged(TransportFault):
    """What came is no HTTP, or its body is not encoded as it says."""

    is_sent = True


class TooLarge(TransportFault):
    """The body is larger than the reader takes; `max_bytes` says how much that is."""

    is_sent = True

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the answer has more than {max_bytes} bytes")
        self.max_bytes = max_bytes
