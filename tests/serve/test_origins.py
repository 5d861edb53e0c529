"""Pages of other sites: a browser lets them send requests to this machine, where a server without keys listens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sundog.ir.logical import EngineBlock
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
