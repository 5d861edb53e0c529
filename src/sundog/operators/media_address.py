"""The addresses of pictures and documents: which of them are sent, and in which form.

Owns the refusal of those that no server reads. Never opens one.
"""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import urlsplit

from sundog.errors import OperatorError

_SCHEME = re.compile(r"\s*(?P<scheme>[a-z][a-z0-9+.-]*://|data:|file:)", re.IGNORECASE)
_GAP = re.compile(r"[\s\x00-\x1f\x7f]")


def web_address(source: str, named: str) -> str | None:
    """Return the `http` or `https` address that a text is, without blanks around it and its scheme in small letters;
    None for a text that is no address. OperatorError for one that no server reads. `named`: the part, for a message."""
    begin = _SCHEME.match(source)
    scheme = "" if begin is None else begin["scheme"].lower()
    if not scheme or scheme == "data:":
        return None
    if scheme not in ("http://", "https://"):
        hint = "write a path in the flow's folder, an https address, or the bytes in base64"
        raise OperatorError(
            f"{named} is an address of the kind {scheme.rstrip(':/')}:, which no server reads", hint=hint
        )
    text = source.strip()
    if _GAP.search(text):
        raise OperatorError(f"{named} is no address: there is a blank in it", hint="a blank in an address is %20")
    try:
        has_host = bool(urlsplit(text).hostname)
    except ValueError:
        has_host = False
    if not has_host:
        raise OperatorError(f"{named} is no address: it names no host", hint="as in https://example.org/a.png")
    return scheme + text[len(scheme) :]


def is_data_address(source: str) -> bool:
    """Return whether a text is a `data:` address, well formed or not."""
    begin = _SCHEME.match(source)
    return begin is not None and begin["scheme"].lower() == "data:"


def decoded(source: str) -> bytes:
    """Return the bytes of a `data:` address, whatever media type that names, or of base64, which may be broken into
    lines; OperatorError where it holds none."""
    head, comma, body = source.strip().partition(",") if is_data_address(source) else ("", "", source)
    if head and (not comma or not head.lower().endswith(";base64")):
        raise OperatorError("a `data:` address must hold base64", hint="as in data:image/png;base64,iVBOR...")
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        hint = "letters, digits, + and /, padded with = to a multiple of four"
        raise OperatorError(f"the bytes are not base64: {error}", hint=hint) from error
