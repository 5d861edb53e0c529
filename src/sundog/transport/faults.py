"""The reasons why an exchange failed, in words that hold no part of its address and no credential.

    TransportFault
    ├── BadAddress
    ├── Unreachable
    │   ├── ConnectTimeout
    │   ├── Untrusted
    │   └── ProxyFault
    ├── Broken
    ├── Silent
    ├── Damaged
    └── TooLarge

Owns the exceptions of this room. Never says what a failure means for a call: engines and operators do.
"""

from __future__ import annotations


class TransportFault(Exception):
    """The base of all, raised only as one of its subclasses; caught by engines, operators and servers, which say what
    it means for them.

    `what` is a phrase, as in "the connection broke"; `hint` says what to do. `is_sent` is True where the first byte of
    the request may have left this machine, so that the other side may have acted.
    """

    is_sent = False

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class BadAddress(TransportFault):
    """Raised for a URL or a header that cannot be sent, of whose value it tells nothing; caught as a TransportFault,
    and by the HTTP operator and the engines' connection, whose texts come from rows and flows."""


class Unreachable(TransportFault):
    """Raised where no connection could be made; caught as a TransportFault."""


class ConnectTimeout(Unreachable):
    """Raised where no connection was made in time: the look-up of the name, TCP, TLS and a proxy's consent together;
    caught as a TransportFault, and by the health checks of vLLM."""


class Untrusted(Unreachable):
    """Raised where TLS with the server fails: an unknown authority, another name, a certificate that has ended; caught
    as a TransportFault."""


class ProxyFault(Unreachable):
    """Raised where the proxy is not there, or refuses; caught as a TransportFault."""


class Broken(TransportFault):
    """Raised where the connection ends before the answer is whole; caught by the client, which repeats what it may, and
    as a TransportFault. `is_silent` is True where not a byte of the answer had come."""

    is_sent = True

    def __init__(self, what: str, *, hint: str | None = None, is_silent: bool = False) -> None:
        super().__init__(what, hint=hint)
        self.is_silent = is_silent


class Silent(TransportFault):
    """Raised where nothing comes for as long as the request allows; caught as a TransportFault."""

    is_sent = True


class Damaged(TransportFault):
    """Raised where what comes is no HTTP, or a body is not encoded as it says; caught as a TransportFault."""

    is_sent = True


class TooLarge(TransportFault):
    """Raised where the body has more than the `max_bytes` that its reader takes; caught by the reader."""

    is_sent = True

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the answer has more than {max_bytes} bytes")
        self.max_bytes = max_bytes
