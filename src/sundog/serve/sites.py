"""The sites that a server without keys answers: this machine, and the names that whoever started it allows.

Owns what `Host` and `Origin` may say. A browser lets the page of any site send requests to a loopback address, and
takes the page and the server for one site where the name of that site leads to this machine (DNS rebinding).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from sundog.errors import ConfigError
from sundog.serve.wire.errors import Refusal

MAX_SHOWN_CHARACTERS = 100
"""So much of what a browser sent is shown."""
_HOST = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:@/?#]*))(?::\d*)?")
"""A name or an address, and a port: what `Host` says."""
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]*")
"""A name that can be asked for: others are written in these characters too."""


class AnsweredSites:
    """This class tells whether a server without keys answers a request. `names`: the hosts that it is reached as beside
    the names and addresses of this machine, with any port. ConfigError for one that is no host."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(written for name in names for written in _checked(name))

    def why_not(self, headers: Iterable[tuple[bytes, bytes]]) -> Refusal | None:
        """Return the refusal of a request that another site may have sent, None for any other. A request that names
        neither a host nor an origin comes from no browser."""
        for name, value in headers:
            if name == b"host" and not self._is_here(_host_of(value.decode("latin-1"))):
                return _not_as(value.decode("latin-1"))
            if name == b"origin" and not self._is_here(_host_of_origin(value.decode("latin-1"))):
                return _not_from(value.decode("latin-1"))
        return None

    def _is_here(self, host: str) -> bool:
        return host in self._names or is_of_this_machine(host)


@lru_cache(maxsize=64)
def is_of_this_machine(host: str) -> bool:
    """Return whether a name or an address means this machine wherever it is said.

    >>> [is_of_this_machine(host) for host in ("localhost", "127.0.0.9", "::1", "localhost.example", "10.0.0.1", "")]
    [True, True, True, False, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _checked(name: str) -> tuple[str, ...]:
    """Return the forms in which a host is named: as it is given, and an address as browsers write it."""
    host = name.lower()
    try:
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        return bare, str(ip_address(bare))
    except ValueError:
        if _NAME.fullmatch(host):
            return (host,)
    what = f"--allowed-host {name!r} is no name of a host"
    raise ConfigError(what, hint="give each name or address by itself and without a port, as gateway.lan")


def _host_of(value: str) -> str:
    """Return the host that a `Host` header names, without its port; "" for one that names none."""
    found = _HOST.fullmatch(value.strip().lower())
    return "" if found is None else found[1] or found[2] or ""


def _host_of_origin(origin: str) -> str:
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _not_as(host: str) -> Refusal:
    what = f"without keys this server is asked as this machine (localhost), not as {host[:MAX_SHOWN_CHARACTERS]!r}"
    hint = "allow the name (sundog serve --allowed-host NAME), or make a key (sundog keys add NAME) and send it"
    return Refusal(403, f"{what}; {hint}", code="foreign_host", is_final=True)


def _not_from(origin: str) -> Refusal:
    what = f"without keys this server answers no page of another site, as {origin[:MAX_SHOWN_CHARACTERS]!r}"
    return Refusal(403, f"{what}; make a key (sundog keys add NAME) and send it", code="foreign_origin", is_final=True)
