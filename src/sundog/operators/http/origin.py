"""The origin of a URL template: what the plan knows of the server before any row.

Owns the reading of the literal start. Never renders.
"""

from __future__ import annotations

import re

from sundog.ir.templates.template import Literal, Template
from sundog.secrets import PATTERN
from sundog.transport.address import parse
from sundog.transport.faults import BadAddress

ANY_ORIGIN = "http:*"

# The authority ends at the first of / ? # and \ ; before that a row's value could still make another host of it.
_START = re.compile(r"(?i)(https?)://([^/?#\\]*)([/?#\\]?)")


def origin_of(url: Template) -> str:
    """Return `http:<scheme>://<host>:<port>` without user and password, or ANY_ORIGIN where a row decides the host."""
    first = url.segments[0] if url.segments else Literal("")
    match = _START.match(first.text) if isinstance(first, Literal) else None
    if match is None or not (match.group(3) or len(url.segments) == 1):
        return ANY_ORIGIN
    scheme, authority, _ = match.groups()
    return f"http:{scheme.lower()}://{authority.rpartition('@')[2]}"


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
