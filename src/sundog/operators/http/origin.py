"""The origin of a URL template: what the plan knows of the server before any row.

Owns the reading of the literal start, and the addresses of hosts. Never renders.
"""

from __future__ import annotations

import re

from sundog.errors import FlowError
from sundog.ir.templates.template import Literal, Template
from sundog.secrets import PATTERN
from sundog.transport.address import DEFAULT_PORTS, parse
from sundog.transport.faults import BadAddress

ANY_ORIGIN = "http:*"
ANY_HOST = "http://*"
"""The address of the hosts that are known with a row only; all of them together have one pool."""
_HOST_ALONE = re.compile(r"(?i)https?://[^/?#\\@]+/?")

# The authority ends at the first of / ? # and \ ; before that a row's value could still make another host of it.
_START = re.compile(r"(?i)(https?)://([^/?#\\]*)([/?#\\]?)")


def origin_of(url: Template) -> str:
    """Return `http:<scheme>://<host>:<port>` without user, password and the scheme's own port, the host in small
    letters; or ANY_ORIGIN where a row decides the host."""
    first = url.segments[0] if url.segments else Literal("")
    match = _START.match(first.text) if isinstance(first, Literal) else None
    if match is None or not (match.group(3) or len(url.segments) == 1):
        return ANY_ORIGIN
    scheme, host = match.group(1).lower(), match.group(2).rpartition("@")[2]
    if PATTERN.search(host) is None:
        host = host.lower().removesuffix(f":{DEFAULT_PORTS[scheme]}")
    return f"http:{scheme}://{host}"


def host_address(url: Template) -> str:
    """Return the address of the hosts that a step asks: its origin, or ANY_HOST."""
    origin = origin_of(url)
    return ANY_HOST if origin == ANY_ORIGIN else origin.removeprefix("http:")


def pool_at(address: str) -> str | None:
    """Return the origin of an address, None where it is that of no host; FlowError for one of more, or of less, than a
    whole host."""
    if address == ANY_HOST:
        return ANY_ORIGIN
    if _START.match(address) is None:
        return None
    if "{{" in address or "{%" in address:
        raise FlowError("an address is no template", hint=f"write {ANY_HOST} for the hosts that only the rows tell")
    if _HOST_ALONE.fullmatch(address) is None:
        raise FlowError(
            "an address of a host has neither user nor path", hint="write scheme, host and port: https://example.com"
        )
    return origin_of(Template(address))


def starts_wrong(url: Template) -> bool:
    """Return whether it is a URL whose literal start can never become http:// or https://."""
    first = url.segments[0] if url.segments else Literal("")
    if not isinstance(first, Literal) or first.text.startswith("${env:"):
        return False
    start = first.text.lower()
    return not any(
        start.startswith(scheme) or (len(url.segments) > 1 and scheme.startswith(start)) for scheme in _SCHEMES
    )


def is_address(url: str) -> bool:
    """Return whether a rendered URL can be asked; secrets may still be names in it."""
    try:
        # The name of a secret stands for a part of a host, or for a port.
        parse(PATTERN.sub("1", url))
    except BadAddress:
        return False
    return True


_SCHEMES = ("http://", "https://")
