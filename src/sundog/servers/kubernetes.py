"""The ready endpoints of a Kubernetes service, as servers of an engine.

Owns the way to the cluster's API, and what its EndpointSlices mean: an endpoint that is ready is a server, one that
ends or fails its checks is leaving, one that no slice has is gone. While the API does not answer, all stay as they
were.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sundog.engines.pool import ServerPool
from sundog.errors import ConfigError
from sundog.servers.replica_watch import ReplicaFound, ReplicaLeaving, ReplicaNews, ReplicaVanished
from sundog.transport.answer import StreamedAnswer
from sundog.transport.client import MAX_PAGE_BYTES, Client, Request
from sundog.transport.faults import TooLarge, TransportFault

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LIST_TIMEOUT_S = 30.0
WATCH_S = 240
"""The API ends a watch after that time, and another one goes on where it ended."""
SILENCE_S = 300.0
FIRST_DELAY_S, MAX_DELAY_S = 1.0, 30.0
GONE = 410
REFUSALS = frozenset({401, 403, 404})


@dataclass(frozen=True, slots=True)
class ClusterAPI:
    """The API of the cluster that this process runs in."""

    url: str
    #: It is read anew for each request, as it is replaced now and then.
    token_file: Path = ACCOUNT / "token"
    #: None for a URL without TLS.
    ca_file: Path | None = ACCOUNT / "ca.crt"

    @classmethod
    def of_pod(cls, environment: Mapping[str, str] = os.environ) -> ClusterAPI:
        """Return the API that each pod is told of; ConfigError outside of a cluster."""
        host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise ConfigError(
                "a pool of a Kubernetes service is found from inside the cluster only, and this is no pod of one",
                hint="run it in a pod of the cluster, or write the addresses into base_url",
            )
        return cls(f"https://{f'[{host}]' if ':' in host else host}:{port}")


class _Expired(Exception):
    """Raised where the API has no history from the point that was asked for; caught by the watch, which lists anew."""


class _Unheard(Exception):
    """Raised where the API did not answer as it should; caught by the watch, which asks again later."""


@dataclass(slots=True)
class _Slices:
    """The slices of a service, by name, and the servers that were told of."""

    pool: ServerPool
    slices: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    #: By base_url, whether it takes requests.
    told: dict[str, bool] = field(default_factory=dict)

    def changes(self) -> Iterator[ReplicaNews]:
        """Yield what is to be told since the last time: first what comes, so that no pool seems empty."""
        now: dict[str, bool] = {}
        for one in self.slices.values():
            for url, is_ready in self._servers(one):
                # While a service changes, an endpoint may be in two slices.
                now[url] = now.get(url, False) or is_ready
        before, self.told = self.told, {url: is_ready for url, is_ready in now.items() if is_ready or url in self.told}
        yield from (ReplicaFound(url) for url, is_ready in now.items() if is_ready and not before.get(url, False))
        yield from (ReplicaLeaving(url) for url, was_ready in before.items() if was_ready and now.get(url) is False)
        yield from (ReplicaVanished(url) for url in before if url not in now)

    def _servers(self, one: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
        endpoints = one.get("endpoints") or []
        if not endpoints:
            return
        port = self._port(one.get("ports") or [])
        scheme = "https" if self.pool.tls else "http"
        for endpoint in endpoints:
            # An endpoint that does not say is ready.
            is_ready = (endpoint.get("conditions") or {}).get("ready") is not False
            for address in (endpoint.get("addresses") or [])[:1]:
                host = f"[{address}]" if ":" in address else address
                yield f"{scheme}://{host}:{port}{self.pool.path}", is_ready

    def _port(self, ports: list[Mapping[str, Any]]) -> int:
        wanted = self.pool.port
        if isinstance(wanted, int):
            return wanted
        found = [one["port"] for one in ports if one.get("port") and (wanted is None or one.get("name") == wanted)]
        if len(found) == 1:
            return int(found[0])
        names = ", ".join(sorted(str(one.get("name") or one.get("port")) for one in ports)) or "none"
        what = f"no port '{wanted}'" if wanted is not None else "not one port"
        raise ConfigError(
            f"the endpoints of {self.pool.shown} have {what}: they have {names}",
            hint="write the pool's `port`: its number or its name",
        )


class ServiceEndpoints:
    """This class hears of the endpoints of the pool's service."""

    def __init__(self, pool: ServerPool, api: ClusterAPI) -> None:
        assert pool.kubernetes is not None, "the pool is no service"
        self._namespace, _, self._service = pool.kubernetes.partition("/")
        self._pool = pool
        self._api = api
        self._slices = _Slices(pool)
        self._was_listed = False

    async def watch(self) -> AsyncGenerator[ReplicaNews, None]:
        """Yield what happens; ConfigError where the API refuses from the begin, or endpoints have no such port."""
        client = Client(ca_file=None if self._api.ca_file is None else str(self._api.ca_file), proxy="")
        delay_s = FIRST_DELAY_S
        try:
            while True:
                try:
                    version = await self._list(client)
                    delay_s = FIRST_DELAY_S
                    for news in self._slices.changes():
                        yield news
                    async for _ in self._follow(client, version):
                        for news in self._slices.changes():
                            yield news
                except _Expired:
                    continue
                except (_Unheard, TransportFault):
                    await asyncio.sleep(delay_s)
                    delay_s = min(2 * delay_s, MAX_DELAY_S)
        finally:
            await client.close()

    async def _list(self, client: Client) -> str:
        """Take up all slices, and return the version that they are of."""
        answer = await client.fetch(self._request(""), max_bytes=MAX_PAGE_BYTES, within_s=LIST_TIMEOUT_S)
        if answer.status in REFUSALS and not self._was_listed:
            raise ConfigError(
                f"the cluster's API refuses the endpoints of {self._pool.shown} ({answer.status})",
                hint="the pod's service account needs a role that may list and watch endpointslices of "
                f"discovery.k8s.io in the namespace {self._namespace}",
            )
        if answer.status != 200:
            raise _Unheard
        listed = _read(answer.body)
        self._was_listed = True
        self._slices.slices = {one["metadata"]["name"]: one for one in listed.get("items") or []}
        return str(listed["metadata"]["resourceVersion"])

    async def _follow(self, client: Client, version: str) -> AsyncGenerator[None, None]:
        """Yield after each change. Where a watch ends, or breaks off, another one goes on from the last version."""
        while True:
            is_heard = False
            query = f"&watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_S}&resourceVersion={quote(version)}"
            try:
                async with client.open(self._request(query), silence_s=SILENCE_S) as answer:
                    if answer.status == GONE:
                        raise _Expired
                    if answer.status != 200:
                        raise _Unheard
                    async for line in _lines(answer):
                        is_heard = True
                        version = self._take(_read(line), version)
                        yield
            except TransportFault:
                if not is_heard:
                    raise
            if not is_heard:
                await asyncio.sleep(FIRST_DELAY_S)

    def _take(self, event: Mapping[str, Any], version: str) -> str:
        """Take up one event, and return the version to go on from."""
        kind, one = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            raise _Expired if one.get("code") == GONE else _Unheard
        metadata = one.get("metadata") or {}
        if kind in ("ADDED", "MODIFIED"):
            self._slices.slices[metadata["name"]] = one
        elif kind == "DELETED":
            self._slices.slices.pop(metadata["name"], None)
        return str(metadata.get("resourceVersion") or version)

    def _request(self, query: str) -> Request:
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self._namespace}/endpointslices"
        selector = quote(f"kubernetes.io/service-name={self._service}")
        try:
            token = self._api.token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(
                f"the token of the pod's service account cannot be read: {error.strerror}",
                where=str(self._api.token_file),
                hint="give the pod a service account, and do not switch automountServiceAccountToken off",
            ) from error
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        return Request("GET", f"{self._api.url}{path}?labelSelector={selector}{query}", headers)


async def _lines(answer: StreamedAnswer) -> AsyncGenerator[bytes, None]:
    rest = b""
    async for piece in answer:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > MAX_PAGE_BYTES:
            raise TooLarge(MAX_PAGE_BYTES)
        for line in lines:
            if line.strip():
                yield line


def _read(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        raise _Unheard from None
    if not isinstance(found, dict):
        raise _Unheard
    return found
