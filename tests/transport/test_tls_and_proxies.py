"""TLS with an authority of one's own, and requests that go through proxies."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import pytest

from sundog.errors import ConfigError
from sundog.transport.certificates import tls_context
from sundog.transport.client import Client, Request
from sundog.transport.faults import ProxyFault, TransportFault, Untrusted
from tests.transport.certificates import Authority, make_authority
from tests.transport.raw_server import OK, close_at_once, proxying, serving


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tls"))


async def fetch(client: Client, url: str) -> bytes:
    try:
        return (await client.fetch(Request("GET", url), max_bytes=1000, within_s=10.0)).body
    finally:
        await client.close()


def test_an_own_authority_is_trusted_by_option_and_by_environment(authority: Authority) -> None:
    async def run() -> None:
        async with serving(OK, tls=authority.server_context()) as server:
            ca_file = str(authority.ca_file)
            assert await fetch(Client(ca_file=ca_file, environment={}), server.origin) == b"ok"
            assert await fetch(Client(environment={"SSL_CERT_FILE": ca_file}), server.origin) == b"ok"
            both = {"SSL_CERT_FILE": "not-there.pem"}
            assert await fetch(Client(ca_file=ca_file, environment=both), server.origin) == b"ok"

    asyncio.run(run())


def test_who_is_not_trusted_is_told_with_what_to_do(authority: Authority, tmp_path: Path) -> None:
    async def fault(client: Client, url: str) -> TransportFault:
        with pytest.raises(Untrusted) as caught:
            await fetch(client, url)
        assert not caught.value.is_sent
        return caught.value

    async def run() -> None:
        async with serving(OK, tls=authority.server_context()) as server:
            stranger = await fault(Client(environment={}), server.origin)
            assert stranger.hint is not None
            assert "SSL_CERT_FILE" in stranger.hint
            assert "ca_file" in stranger.hint
        other = make_authority(tmp_path, names="DNS:elsewhere.example")
        async with serving(OK, tls=other.server_context()) as server:
            name = await fault(Client(ca_file=str(other.ca_file), environment={}), server.origin)
            assert name.hint == "use a name that the certificate has"
        async with serving(b"HTTP/1.1 400 No\r\n\r\n") as plain:
            plain.script = [close_at_once]

    asyncio.run(run())


@pytest.mark.parametrize(("content", "says"), [(None, "not there"), ("no: certificate", "no certificate"), ("", "no")])
def test_a_file_of_authorities_that_is_none_is_named(tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "authorities.pem"
    if content is not None:
        path.write_text(content)
    for ca_file, environment, name in ((str(path), {}, "ca_file"), (None, {"SSL_CERT_FILE": str(path)}, "SSL_CERT")):
        for url in ("https://a.org/", "http://a.org/"):
            with pytest.raises(ConfigError, match=says) as caught:
                Client(ca_file=ca_file, proxy="", environment=environment).check(url)
            assert name in caught.value.what
            assert str(path) in caught.value.what


def test_folders_of_authorities_may_be_a_list(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    listed = os.pathsep.join([str(tmp_path / "a"), "", str(tmp_path / "b")])
    Client(proxy="", environment={"SSL_CERT_DIR": listed}).check("https://a.org/")
    with pytest.raises(ConfigError, match=r"SSL_CERT_DIR names .*/c, which is not there"):
        Client(proxy="", environment={"SSL_CERT_DIR": f"{listed}{os.pathsep}{tmp_path}/c"}).check("https://a.org/")


def test_all_clients_share_one_context_and_it_verifies() -> None:
    context = tls_context(None, {})
    assert tls_context(None, {"SSL_CERT_FILE": ""}) is context
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_plain_requests_and_tunnels_go_through_the_proxy(authority: Authority) -> None:
    async def run() -> None:
        async with proxying() as proxy, serving(OK, tls=authority.server_context()) as server:
            environment = {"ALL_PROXY": proxy.origin.replace("//", "//user:pass@")}
            assert await fetch(Client(environment=environment), "http://elsewhere.invalid/x?y") == b"ok"
            assert proxy.heads[0].startswith("GET http://elsewhere.invalid/x?y HTTP/1.1")
            assert "Proxy-Authorization: Basic dXNlcjpwYXNz" in proxy.heads[0]
            client = Client(ca_file=str(authority.ca_file), environment=environment)
            assert await fetch(client, server.origin) == b"ok"
            assert proxy.heads[1].startswith("CONNECT 127.0.0.1:")
            assert "Proxy-Authorization" not in server.heads[0]
            direct = Client(environment={**environment, "NO_PROXY": "127.0.0.0/8"}, ca_file=str(authority.ca_file))
            assert await fetch(direct, server.origin) == b"ok"
            assert len(proxy.heads) == 2

    asyncio.run(run())


def test_a_proxy_that_is_away_or_refuses_is_told_by_its_variable() -> None:
    async def fault(environment: dict[str, str], url: str) -> ProxyFault:
        with pytest.raises(ProxyFault) as caught:
            await fetch(Client(environment=environment), url)
        assert not caught.value.is_sent
        return caught.value

    async def run() -> None:
        async with serving(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n") as refusing:
            for scheme in ("http", "https"):
                refused = await fault({"ALL_PROXY": refusing.origin}, f"{scheme}://elsewhere.invalid/")
                assert "407" in refused.what
                assert "ALL_PROXY" in (refused.hint or "")
        away = await fault({"HTTP_PROXY": refusing.origin}, "http://elsewhere.invalid/")
        assert "Connection refused" in away.what
        assert "HTTP_PROXY" in (away.hint or "")

    asyncio.run(run())


def test_a_socks_proxy_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(environment={"ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": "localhost"})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    client.check("http://localhost:9/v1")
    with pytest.raises(ConfigError, match="ALL_PROXY names a SOCKS proxy") as caught:
        client.check("http://a.org/")
    assert "sundog[socks]" in (caught.value.hint or "")


def test_a_socks_proxy_is_asked_by_name() -> None:
    pytest.importorskip("aiohttp_socks", reason="of the extra socks")

    async def run() -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(3)
            writer.write(b"\x05\x00")
            head = await reader.readexactly(5)
            names.append((await reader.readexactly(head[4] + 2))[:-2].decode())
            writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01")
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            await reader.read()
            writer.close()

        names: list[str] = []
        listener = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        client = Client(environment={"ALL_PROXY": f"socks5h://127.0.0.1:{port}"})
        assert await fetch(client, "http://elsewhere.invalid/") == b"ok"
        assert names == ["elsewhere.invalid"]
        listener.close()
        away = Client(environment={"ALL_PROXY": f"socks5://127.0.0.1:{port}"})
        with pytest.raises(ProxyFault):
            await fetch(away, "http://elsewhere.invalid/")

    asyncio.run(run())
