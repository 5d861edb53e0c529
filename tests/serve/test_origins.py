"""Pages of other sites: a browser lets them send requests to this machine, where a server without keys listens, and
takes it for theirs where the name of their site leads to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sundog.errors import ConfigError
from sundog.ir.logical import EngineBlock
from sundog.serve.sites import AnsweredSites
from tests.serve.asking import ask
from tests.serve.keyed import added
from tests.serve.running import Running, running

CHAT = {"model": "model-one", "messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    block = EngineBlock("one", "null", {"model": "model-one"})
    with running(tmp_path_factory.mktemp("origins"), engines=[block]) as one:
        yield one


@pytest.mark.parametrize(
    "origin",
    [
        "https://elsewhere.example",
        "http://localhost.elsewhere.example",
        "http://127.0.0.1.elsewhere.example:8321",
        "http://[::2]",
        "http://[",
        "chrome-extension://abcdef",
        "null",
        "",
    ],
)
def test_a_page_of_another_site_is_refused(server: Running, origin: str) -> None:
    heard = ask(server.address, "POST", PATH, CHAT, {"Origin": origin})
    assert (heard.status, heard.body["error"]["code"]) == (403, "foreign_origin")
    assert "sundog keys add" in heard.body["error"]["message"]
    assert ask(server.address, "GET", "/v1/models", None, {"Origin": origin}).status == 403
    refused = ask(server.address, "POST", "/v1/messages", CHAT, {"Origin": origin})
    assert refused.body["error"]["type"] == "permission_error", "the doors of Anthropic say it in its form"


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:8321", "http://[::1]:9", None])
def test_a_page_of_this_machine_and_whoever_is_no_page_come_in(server: Running, origin: str | None) -> None:
    headers = {} if origin is None else {"Origin": origin}
    assert ask(server.address, "POST", PATH, CHAT, headers).status == 200


def test_with_a_key_any_page_comes_in(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("keyed")
    key = added(folder, "page")
    with running(folder, engines=[EngineBlock("one", "null", {"model": "model-one"})]) as server:
        headers = {"Origin": "https://elsewhere.example", "Authorization": f"Bearer {key}"}
        assert ask(server.address, "POST", PATH, CHAT, headers).status == 200
        headers["Host"] = "elsewhere.example"
        assert ask(server.address, "POST", PATH, CHAT, headers).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "elsewhere.example",
        "elsewhere.example:8321",
        "localhost.elsewhere.example",
        "127.0.0.1.elsewhere.example",
        "10.0.0.1:8321",
        "[::2]:8321",
        "elsewhere.example:80@localhost",
        "localhost/@elsewhere.example",
        "",
    ],
)
def test_a_server_without_keys_is_asked_as_this_machine_alone(server: Running, host: str) -> None:
    heard = ask(server.address, "POST", PATH, CHAT, {"Host": host})
    assert (heard.status, heard.body["error"]["code"]) == (403, "foreign_host")
    assert "--allowed-host" in heard.body["error"]["message"]
    assert "sundog keys add" in heard.body["error"]["message"]
    for path in ("/", "/v1/models", "/v1/status", "/health"):
        assert ask(server.address, "GET", path, None, {"Host": host}).status == 403, path
    refused = ask(server.address, "POST", "/v1/messages", CHAT, {"Host": host})
    assert refused.body["error"]["type"] == "permission_error", "the doors of Anthropic say it in its form"


@pytest.mark.parametrize("host", ["localhost", "LocalHost:1", "127.0.0.1:8321", "127.8.9.10", "[::1]", "[::1]:80"])
def test_every_name_of_this_machine_is_answered(server: Running, host: str) -> None:
    assert ask(server.address, "POST", PATH, CHAT, {"Host": host}).status == 200


def test_allowed_names_are_answered_as_this_machine_is() -> None:
    sites = AnsweredSites(["Gateway.lan", "[fd00::1]", "10.0.0.1", "fd00:0::2"])
    for host in ("gateway.lan", "gateway.LAN:8321", "[fd00::1]:8321", "10.0.0.1", "[fd00::2]", "[fd00:0::2]:1"):
        own_page = (b"origin", f"http://{host}".encode())
        assert sites.why_not([(b"host", host.encode()), own_page]) is None
    for host in ("a.gateway.lan", "gateway.lan.example", "10.0.0.2"):
        refusal = sites.why_not([(b"accept", b"*/*"), (b"host", host.encode())])
        assert refusal is not None
        assert refusal.code == "foreign_host"
    twice = sites.why_not([(b"host", b"localhost"), (b"host", b"elsewhere.example")])
    assert twice is not None, "each of them may be the one that a browser means"
    for wrong in ("gateway.lan:8321", "http://gateway.lan", "", "gateway.lan/", "*", "*.lan", "a b", "[gateway.lan]"):
        with pytest.raises(ConfigError, match="is no name of a host"):
            AnsweredSites([wrong])
