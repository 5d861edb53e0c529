"""The endpoints of a Kubernetes service, as its API tells of them, whatever befalls a watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from sundog.engines.pool import ServerPool
from sundog.errors import ConfigError
from sundog.servers import kubernetes
from sundog.servers.kubernetes import ClusterAPI, ServiceEndpoints
from sundog.servers.replica_watch import ReplicaFound, ReplicaLeaving, ReplicaNews, ReplicaVanished
from tests.servers.fake_kubernetes import FakeKubernetes

A, B, C = ("http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1", "http://10.0.0.3:8000/v1")
Heard = Callable[[int], Awaitable[list[ReplicaNews]]]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKubernetes]:
    monkeypatch.setattr(kubernetes, "FIRST_DELAY_S", 0.01)
    with FakeKubernetes(tmp_path) as fake:
        yield fake
        fake.drop_watches()


def hear(api: FakeKubernetes, check: Callable[[Heard], Awaitable[None]], **options: Any) -> None:
    """Run `check` beside a watch; it is given what waits for so many pieces of news."""

    async def main() -> None:
        pool = ServerPool(kubernetes="llms/llama", **options)
        async with aclosing(ServiceEndpoints(pool, api.api).watch()) as watch:

            async def heard(number: int) -> list[ReplicaNews]:
                return [await asyncio.wait_for(_next(watch), 10.0) for _ in range(number)]

            await check(heard)
        api.drop_watches()

    asyncio.run(main())


async def _next(watch: AsyncGenerator[ReplicaNews, None]) -> ReplicaNews:
    return await anext(watch)


def test_endpoints_come_leave_and_go(api: FakeKubernetes) -> None:
    api.put("s1", ("10.0.0.1", "ready"), ("10.0.0.2", "unready"))

    async def check(heard: Heard) -> None:
        assert await heard(1) == [ReplicaFound(A)]
        api.put("s1", ("10.0.0.1", "ready"), ("10.0.0.2", ""))
        assert await heard(1) == [ReplicaFound(B)], "an endpoint that says nothing is ready"
        api.put("s1", ("10.0.0.1", "ends"), ("10.0.0.2", "ready"))
        assert await heard(1) == [ReplicaLeaving(A)]
        api.put("s1", ("10.0.0.2", "unready"))
        assert sorted(await heard(2), key=repr) == [ReplicaLeaving(B), ReplicaVanished(A)]
        api.put("s1", ("10.0.0.2", "ready"))
        assert await heard(1) == [ReplicaFound(B)], "it passes its checks again"
        api.put("s2", ("10.0.0.3", "ready"), ("10.0.0.2", "ready"))
        assert await heard(1) == [ReplicaFound(C)], "an endpoint may be in two slices"
        api.delete("s2")
        assert await heard(1) == [ReplicaVanished(C)]
        assert api.num_lists == 1

    hear(api, check)


def test_a_watch_that_breaks_goes_on_where_it_was(api: FakeKubernetes) -> None:
    api.put("s1", ("10.0.0.1", "ready"))

    async def check(heard: Heard) -> None:
        assert await heard(1) == [ReplicaFound(A)]
        following = asyncio.ensure_future(heard(1))
        await asyncio.sleep(0.1)
        api.drop_watches()
        api.put("s2", ("10.0.0.2", "ready"))
        assert await following == [ReplicaFound(B)]
        assert api.num_lists == 1
        assert api.num_watches >= 2

    hear(api, check)


@pytest.mark.parametrize("way", ["status", "event"])
def test_history_that_is_gone_is_listed_anew(api: FakeKubernetes, way: str) -> None:
    api.put("s1", ("10.0.0.1", "ready"), ("10.0.0.2", "ready"))

    async def check(heard: Heard) -> None:
        assert len(await heard(2)) == 2
        following = asyncio.ensure_future(heard(2))
        await asyncio.sleep(0.1)
        if way == "status":
            api.forget_history()
            api.put("s1", ("10.0.0.2", "ready"), ("10.0.0.3", "ready"))
            api.events.clear()
            api.forget_history()
            api.drop_watches()
        else:
            with api.lock:
                api.slices["s1"]["endpoints"] = [
                    {"addresses": [address], "conditions": {}} for address in ("10.0.0.2", "10.0.0.3")
                ]
            api.error(410)
        assert await following == [ReplicaFound(C), ReplicaVanished(A)], "what has not changed is not told again"
        assert api.num_lists == 2

    hear(api, check)


def test_servers_stay_while_the_api_is_away(api: FakeKubernetes) -> None:
    api.put("s1", ("10.0.0.1", "ready"))

    async def check(heard: Heard) -> None:
        assert await heard(1) == [ReplicaFound(A)]
        following = asyncio.ensure_future(heard(1))
        await asyncio.sleep(0.05)
        api.refuses = 503
        api.drop_watches()
        await asyncio.sleep(0.2)
        assert not following.done()
        api.refuses = 403
        await asyncio.sleep(0.1)
        assert not following.done(), "who could once list is not refused for ever"
        api.put("s2", ("10.0.0.2", "ready"))
        api.refuses = 0
        assert await following == [ReplicaFound(B)]

    hear(api, check)


def test_a_token_that_is_replaced_is_read_anew(api: FakeKubernetes) -> None:
    api.put("s1", ("10.0.0.1", "ready"))

    async def check(heard: Heard) -> None:
        assert await heard(1) == [ReplicaFound(A)]
        following = asyncio.ensure_future(heard(1))
        await asyncio.sleep(0.05)
        api.token_file.write_text("another one", encoding="utf-8")
        api.drop_watches()
        api.put("s2", ("10.0.0.2", "ready"))
        assert await following == [ReplicaFound(B)]

    hear(api, check)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_at_the_begin_says_what_is_needed(api: FakeKubernetes, status: int) -> None:
    api.refuses = status

    async def check(heard: Heard) -> None:
        with pytest.raises(ConfigError, match=rf"refuses the endpoints of Kubernetes service llms/llama \({status}\)"):
            await heard(1)

    hear(api, check)


@pytest.mark.parametrize(
    ("port", "ports", "found"),
    [
        ("http", [{"name": "metrics", "port": 9}, {"name": "http", "port": 8001}], 8001),
        (8002, [], 8002),
        (None, [{"port": 8003}], 8003),
        (
            None,
            [{"name": "metrics", "port": 9}, {"name": "http", "port": 8001}],
            "not one port: they have http, metrics",
        ),
        ("grpc", [{"name": "http", "port": 8001}], "no port 'grpc': they have http"),
    ],
)
def test_the_port_is_the_one_that_is_meant(
    api: FakeKubernetes, port: int | str | None, ports: list[dict[str, Any]], found: int | str
) -> None:
    api.put("s1", ("fd00::1", "ready"), ports=ports)

    async def check(heard: Heard) -> None:
        if isinstance(found, int):
            assert await heard(1) == [ReplicaFound(f"https://[fd00::1]:{found}/x/v1")]
        else:
            with pytest.raises(ConfigError, match=found):
                await heard(1)

    hear(api, check, port=port, tls=True, path="/x/v1")


def test_outside_of_a_cluster_there_is_no_api(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="from inside the cluster only"):
        ClusterAPI.of_pod({})
    found = ClusterAPI.of_pod({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"})
    assert (found.url, found.ca_file) == (
        "https://[fd00::1]:6443",
        Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"),
    )


def test_a_pod_without_a_token_says_so(api: FakeKubernetes) -> None:
    api.token_file.unlink()

    async def check(heard: Heard) -> None:
        with pytest.raises(ConfigError, match="token of the pod's service account cannot be read"):
            await heard(1)

    hear(api, check)
