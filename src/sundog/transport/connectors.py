"""Connectors: where connections are made and kept.

Owns what aiohttp's connectors do not tell: that a request has got its connection, and whether that one was used before.
"""

from __future__ import annotations

import asyncio
import importlib.util
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler

from sundog.errors import ConfigError
from sundog.transport.connection import WatchedConnection

if TYPE_CHECKING:
    from sundog.transport.proxies import Proxy
    from sundog.transport.send_progress import SendProgress

current_progress: ContextVar[SendProgress] = ContextVar("sundog_request")
"""The progress of the request that this task sends."""


class _ReportingConnector(aiohttp.TCPConnector):
    """A connector that writes into `current_progress`, and gives a request one connection only: aiohttp sends GET, PUT,
    DELETE and others again by itself where a connection broke, and so might do an effect twice."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        kind: type[ResponseHandler] = WatchedConnection
        self._factory = partial(kind, asyncio.get_running_loop())
        self._used: WeakSet[Any] = WeakSet()

    async def connect(self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:  # noqa: ASYNC109 - aiohttp's
        """Return a connection for the request under way and tell its progress: whether the connection was used before,
        and that bytes may leave from now on. A second attempt within one request is refused, since aiohttp would make
        it by itself."""
        progress = current_progress.get()
        if progress.is_sending:
            raise aiohttp.ServerDisconnectedError
        connection = await super().connect(req, traces, timeout)
        while progress.must_be_new and connection.protocol in self._used:
            connection.close()
            connection = await super().connect(req, traces, timeout)
        progress.is_kept = connection.protocol in self._used
        progress.is_sending = True
        self._used.add(connection.protocol)
        return connection


def open_connector(socks: Proxy | None, *, keep_alive_s: float) -> aiohttp.TCPConnector:
    """Return a connector without a limit of its own: how much is in flight is decided elsewhere."""
    options = {"limit": 0, "keepalive_timeout": keep_alive_s}
    return _ReportingConnector(**options) if socks is None else _through_socks(socks, options)


def require_socks(socks: Proxy) -> None:
    """Raise ConfigError where the package for SOCKS proxies is not installed."""
    if importlib.util.find_spec("aiohttp_socks") is None:
        raise ConfigError(
            f"{socks.source} names a SOCKS proxy, for which a package is missing",
            hint="pip install 'sundog[socks]', or name the host in NO_PROXY",
        )


def _through_socks(socks: Proxy, options: dict[str, Any]) -> aiohttp.TCPConnector:
    require_socks(socks)
    from aiohttp_socks import ProxyConnector

    class ReportingSocksConnector(_ReportingConnector, ProxyConnector):
        """The same through a SOCKS proxy, which looks up the names of hosts."""

    scheme, _, rest = socks.url.partition("://")
    url = f"{scheme.rstrip('ah')}://{rest}"
    try:
        connector: aiohttp.TCPConnector = ReportingSocksConnector.from_url(url, rdns=True, **options)
    except ValueError as error:
        raise ConfigError(f"{socks.source} names a proxy that is none", hint="write socks5://host:port") from error
    return connector
