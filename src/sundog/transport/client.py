"""The client: one request, one answer, over connections that are kept for a while.

Owns connections, time limits, and whether a request had begun to leave when it failed. It follows no redirect, keeps no
cookie, and repeats nothing but a request that a kept connection, closed by the server meanwhile, never delivered.
Never says what an answer means.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from types import TracebackType
from typing import TYPE_CHECKING

from sundog.transport.address import Address, parse
from sundog.transport.answer import StreamedAnswer, WholeAnswer
from sundog.transport.certificates import check_named_files, tls_context
from sundog.transport.faults import Broken, Damaged, ProxyFault, Silent
from sundog.transport.proxies import Proxy, proxy_of
from sundog.transport.send_progress import SendProgress

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

CONNECT_TIMEOUT_S = 10.0
MAX_PAGE_BYTES = 16 * 2**20
"""The bound of a page that a server has about itself: its health, its models, its metrics."""
KEEP_ALIVE_S = 3.0
"""Less than the 5 s after which uvicorn, and so vLLM, closes an idle connection: a request on its way would be lost."""
MAX_HEADER_BYTES = 65_536
"""The bound of one header; a proxy's or a company's own are longer than aiohttp's 8 KiB at times."""
LARGE_BODY_BYTES = 1_000_000
PROBE_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    #: Sending it twice does no harm.
    is_repeatable: bool = True


class Client:
    """Connections to any number of servers; they belong to one event loop.

    `ca_file`: whose certificates are trusted, None for the environment's and the system's. `proxy`: a URL, empty for
    none, None for what the environment names. `environment`: None takes that of the process.
    """

    def __init__(
        self,
        *,
        ca_file: str | None = None,
        proxy: str | None = None,
        environment: Mapping[str, str] | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._ca_file = ca_file
        self._proxy = proxy
        self._environment = os.environ if environment is None else environment
        self._connect_timeout_s = connect_timeout_s
        self._routes: dict[tuple[str, str, int], _Route] = {}
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    def check(self, url: str) -> None:
        """Raise what every request to `url` would: BadAddress, or ConfigError for certificates and proxies."""
        proxy, _ = self._way(parse(url))
        if proxy is not None and proxy.is_socks:
            from sundog.transport.connectors import require_socks

            require_socks(proxy)

    def open(
        self, request: Request, *, silence_s: float | None = None, progress: SendProgress | None = None
    ) -> Opening:
        """Send a request; entering the context gives the StreamedAnswer once its head is there, and raises a
        TransportFault when none comes. Leaving it before the body has ended closes the connection. `silence_s`: how
        long the server may say nothing; `progress` is written to."""
        return Opening(self, request, silence_s, progress or SendProgress())

    async def fetch(self, request: Request, *, max_bytes: int, within_s: float) -> WholeAnswer:
        """Return the answer with its whole body; TooLarge when that has more than `max_bytes`, Silent when it is not
        there within `within_s`."""
        try:
            async with asyncio.timeout(within_s), self.open(request) as answer:
                return WholeAnswer(answer.status, answer.reason, answer.headers, await answer.read(max_bytes))
        except TimeoutError:
            raise Silent(f"no answer within {within_s:g} s") from None

    async def close(self) -> None:
        """Close all connections; what is under way fails."""
        sessions, self._sessions = self._sessions, {}
        self._routes.clear()
        for session in sessions.values():
            await session.close()

    async def send(self, request: Request, silence_s: float | None, progress: SendProgress) -> StreamedAnswer:
        """Return the answer once its head is there; whoever gets it closes it."""
        address = parse(request.url)
        route = self._route(address)
        try:
            answer = await self._attempt(request, address, route, silence_s, progress)
        except (Broken, Damaged) as fault:
            is_lost = isinstance(fault, Broken) and fault.is_silent and progress.is_kept
            # Where this client was closed meanwhile, nothing goes out any more.
            if is_lost and request.is_repeatable and not route.session.closed:
                # The server closed the connection while it was kept: what crossed with that was not looked at.
                progress.is_sending, progress.must_be_new = False, True
                answer = await self._attempt(request, address, route, silence_s, progress)
            else:
                if not route.has_answered and await _speaks_tls(address, route):
                    fault.hint = "there is TLS at this port: write https://"
                raise
        route.has_answered = True
        return answer

    async def _attempt(
        self, request: Request, address: Address, route: _Route, silence_s: float | None, progress: SendProgress
    ) -> StreamedAnswer:
        from sundog.transport.connectors import current_progress
        from sundog.transport.translation import transport_fault_of

        headers = request.headers
        if address.credentials is not None and "authorization" not in {name.lower() for name in headers}:
            headers = {**headers, "Authorization": address.credentials}
        token = current_progress.set(progress)
        try:
            response = await route.session.request(
                request.method,
                _as_written(address.url),
                headers=headers,
                data=_sendable(request.body),
                proxy=None if route.proxy is None or route.proxy.is_socks else route.proxy.url,
                ssl=route.tls,
                timeout=_limits(self._connect_timeout_s, silence_s),
                allow_redirects=False,
            )
        except Exception as error:
            fault = transport_fault_of(error, route.proxy)
            if fault is None:
                raise
            raise fault from None
        finally:
            current_progress.reset(token)
        if response.status == 407 and route.proxy is not None:
            response.close()
            raise ProxyFault(
                "the proxy wants a user and a password (407)", hint=f"write them into {route.proxy.source}"
            )
        return StreamedAnswer(response, route.proxy)

    def _route(self, address: Address) -> _Route:
        key = (address.scheme, address.host, address.port)
        if (route := self._routes.get(key)) is None:
            proxy, tls = self._way(address)
            route = self._routes[key] = _Route(self._session(proxy), proxy, tls)
        return route

    def _way(self, address: Address) -> tuple[Proxy | None, ssl.SSLContext | bool]:
        proxy = proxy_of(address, self._proxy, self._environment)
        has_tls = address.scheme == "https" or (proxy is not None and proxy.url.startswith("https:"))
        if not has_tls:
            check_named_files(self._ca_file, self._environment)
            return proxy, True
        return proxy, tls_context(self._ca_file, self._environment)

    def _session(self, proxy: Proxy | None) -> aiohttp.ClientSession:
        """Return the session for all that goes directly or through HTTP proxies, or that of one SOCKS proxy."""
        import aiohttp

        from sundog.transport.connectors import open_connector

        socks = proxy if proxy is not None and proxy.is_socks else None
        key = "" if socks is None else socks.url
        if key not in self._sessions:
            self._sessions[key] = aiohttp.ClientSession(
                connector=open_connector(socks, keep_alive_s=KEEP_ALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "sundog"},
                skip_auto_headers=("Content-Type",),
                max_line_size=MAX_HEADER_BYTES,
                max_field_size=MAX_HEADER_BYTES,
            )
        return self._sessions[key]


class Opening:
    """One exchange as a context: see Client.open."""

    __slots__ = ("_answer", "_client", "_progress", "_request", "_silence_s")

    def __init__(self, client: Client, request: Request, silence_s: float | None, progress: SendProgress) -> None:
        self._client = client
        self._request = request
        self._silence_s = silence_s
        self._progress = progress
        self._answer: StreamedAnswer | None = None

    async def __aenter__(self) -> StreamedAnswer:
        self._answer = await self._client.send(self._request, self._silence_s, self._progress)
        return self._answer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._answer is not None:
            self._answer.close()


@dataclass(slots=True)
class _Route:
    """The way of requests to one origin."""

    session: aiohttp.ClientSession
    proxy: Proxy | None
    tls: ssl.SSLContext | bool
    #: It has answered before, so the way is right.
    has_answered: bool = False


@lru_cache(maxsize=512)
def _as_written(url: str) -> URL:
    from yarl import URL

    return URL(url, encoded=True)


@lru_cache(maxsize=64)
def _limits(connect_timeout_s: float, silence_s: float | None) -> aiohttp.ClientTimeout:
    import aiohttp

    return aiohttp.ClientTimeout(connect=connect_timeout_s, sock_read=silence_s)


def _sendable(body: bytes | None) -> bytes | BytesIO | None:
    # Bytes go out in one piece, which a large body would hold the event loop with.
    return BytesIO(body) if body is not None and len(body) > LARGE_BODY_BYTES else body


async def _speaks_tls(address: Address, route: _Route) -> bool:
    """Return whether a request in plain text met a server that expects TLS."""
    if address.scheme != "http" or route.proxy is not None:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Only whether there is TLS is asked; nothing is sent, so nobody needs to be trusted.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(address.host.strip("[]"), address.port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True
