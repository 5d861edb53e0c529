"""Addresses: a URL as it goes out, and what may not stand in one.

Owns the reading, joining and quoting of URLs. A URL goes out as it was written; only what no URL may hold is
percent-encoded. No message holds a part of the URL: it may be a secret.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, quote, quote_plus, unquote, urljoin, urlsplit

from sundog.transport.faults import BadAddress

DEFAULT_PORTS = {"http": 80, "https": 443}
FRAMING = frozenset({"content-length", "transfer-encoding"})
"""Headers that say where a request ends: with a wrong one a server waits for more, or takes the rest for the next."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_LOOSE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=-]+")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_NO_HEADER = re.compile(r"[^\x20-\x7e\t]")
_IN_PATH = "/:@!$&'()*+,;=-._~%"
_IN_QUERY = _IN_PATH + "?"


@dataclass(frozen=True, slots=True)
class Address:
    """The place where a request goes."""

    scheme: str
    #: In ASCII, in brackets for IPv6.
    host: str
    port: int
    #: Path and query, quoted.
    target: str
    #: The value of an Authorization header, from the user and password of the URL.
    credentials: str | None = None

    @property
    def origin(self) -> str:
        """The address without path, query and credentials."""
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"

    @property
    def url(self) -> str:
        """The address without credentials and fragment, as it goes out."""
        return self.origin + self.target


@lru_cache(maxsize=512)
def parse(url: str) -> Address:
    """Read a URL; BadAddress says what is wrong with it, and none of its parts."""
    if _CONTROLS.search(url):
        raise BadAddress("the URL holds a control character")
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        is_port = "port" in str(error).lower()
        raise BadAddress(f"the URL has {'a port that is no number' if is_port else 'no readable host'}") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise BadAddress("the URL begins with neither http:// nor https://")
    if port == 0:
        raise BadAddress("the URL names port 0, at which no server can be")
    try:
        target = _quoted(parts.path, _IN_PATH) or "/"
        if parts.query:
            target += "?" + _quoted(parts.query, _IN_QUERY)
        return Address(parts.scheme, _host(parts), port or DEFAULT_PORTS[parts.scheme], target, _credentials(parts))
    except UnicodeError:
        raise BadAddress("the URL holds text that cannot be written as UTF-8") from None


def joined(base_url: str, path: str) -> str:
    """Return `base_url` with `path` behind its own path; its query stays the query, and its fragment is no server's."""
    head, mark, query = base_url.strip().partition("#")[0].partition("?")
    return head.rstrip("/") + path + mark + query


def with_parameters(url: str, parameters: Iterable[tuple[str, str]]) -> str:
    """Return `url` with further parameters at the end of its query; BadAddress for text that no URL can hold."""
    try:
        more = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in parameters)
    except UnicodeError:
        raise BadAddress("a query parameter holds text that cannot be written as UTF-8") from None
    if not more:
        return url
    head, mark, fragment = url.partition("#")
    between = "" if head.endswith(("?", "&")) else "&" if "?" in head else "?"
    return head + between + more + mark + fragment


def resolved(url: str, location: str) -> str:
    """Return where a redirect from `url` leads; BadAddress when `location` cannot be read."""
    try:
        return urljoin(url, location)
    except ValueError:
        raise BadAddress("the redirect leads to no URL") from None


def check_header(name: str, value: str) -> None:
    """Raise BadAddress where the header cannot be sent; its value is not told."""
    if not _TOKEN.fullmatch(name):
        raise BadAddress("the name of a header holds a character that no name can carry")
    if name.lower() in FRAMING:
        raise BadAddress(f"the header '{name}' says where the request ends, and is written by sundog alone")
    if _NO_HEADER.search(value):
        raise BadAddress(f"the header '{name}' holds a character that no header can carry")


def _host(parts: SplitResult) -> str:
    host = parts.hostname
    if not host:
        raise BadAddress("the URL has no host")
    if "\\" in parts.netloc:
        raise BadAddress("the URL has no readable host")
    if ":" in host:
        return f"[{host}]"
    if not host.isascii():
        import idna

        try:
            host = idna.encode(host, uts46=True).decode()
        except idna.IDNAError:
            raise BadAddress("the URL has a host name that cannot be written in ASCII") from None
    if not _HOST.fullmatch(host):
        raise BadAddress("the URL has no readable host")
    return host


def _credentials(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + b64encode(pair.encode()).decode()


def _quoted(text: str, safe: str) -> str:
    return quote(_LOOSE_PERCENT.sub("%25", text), safe=safe)
