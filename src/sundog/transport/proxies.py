"""The proxy that a request takes: that of an option, or one that the environment names.

Owns HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in capitals or not; in lower case they come first, as everywhere.
Never connects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from sundog.errors import ConfigError
from sundog.transport.address import Address

_HTTP_SCHEMES = ("http", "https")
_SOCKS_SCHEMES = ("socks4", "socks4a", "socks5", "socks5h")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy and where it was named."""

    #: The URL, with its user and password.
    url: str
    #: The option or variable that names it, for messages, which never show the URL.
    source: str

    @property
    def is_socks(self) -> bool:
        return self.url.partition("://")[0] in _SOCKS_SCHEMES


def proxy_of(address: Address, option: str | None, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for an address: `option` where it is written (empty for none), else the environment's;
    ConfigError when it is none that can be used."""
    if option is not None:
        return _checked(option, "the option `proxy`") if option else None
    if _is_direct(address, environment.get("no_proxy") or environment.get("NO_PROXY") or ""):
        return None
    for name in _variables(address.scheme):
        if environment.get(name):
            return _checked(environment[name], name)
    return None


def _variables(scheme: str) -> Iterator[str]:
    for name in (f"{scheme}_proxy", "all_proxy"):
        yield name
        yield name.upper()


def _checked(url: str, source: str) -> Proxy:
    url = url.strip() if "://" in url else f"http://{url.strip()}"
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in (*_HTTP_SCHEMES, *_SOCKS_SCHEMES) or not _has_host(url):
        raise ConfigError(
            f"{source} names a proxy that is none",
            hint="write http://host:port, https://host:port or socks5://host:port, with user:password@ before the host"
            " where the proxy wants them; other characters of these than letters and digits as %2F and the like",
        )
    return Proxy(f"{scheme.lower()}://{rest}", source)


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0 and not re.search(r"[\s\\]", parts.netloc)
    except ValueError:  # a port that is no number: often the beginning of a password with a slash
        return False


def _is_direct(address: Address, no_proxy: str) -> bool:
    """Return whether an address is reached without a proxy.

    `no_proxy`: names and their subdomains, addresses, networks as 10.0.0.0/8, `*`; each may end in a port.
    """
    host = address.host.strip("[]").lower().rstrip(".")
    return any(_covers(entry.strip().lower(), host, address.port) for entry in no_proxy.split(",") if entry.strip())


def _covers(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    name, colon, number = entry.rpartition(":")
    if colon and number.isdecimal() and (":" not in name or name.endswith("]")):
        if int(number) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        name = entry.lstrip("*").lstrip(".").rstrip(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))
