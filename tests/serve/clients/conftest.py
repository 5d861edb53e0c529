"""The servers that clients of others are tried on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sundog.ir.logical import EngineBlock
from tests.serve.clients.gateway import Gateway
from tests.serve.running import running


@pytest.fixture(scope="session")
def modelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway over an engine that makes up its answers."""
    block = EngineBlock("one", "null", {"model": "model-one"})
    with running(tmp_path_factory.mktemp("modelled"), engines=[block]) as server:
        yield Gateway(server.address, "model-one")


@pytest.fixture(scope="session")
def behind(modelled: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose engine is a server: the other gateway."""
    block = EngineBlock("front", "openai", {"model": modelled.model, "base_url": f"{modelled.address}/v1"})
    with running(tmp_path_factory.mktemp("behind"), engines=[block]) as server:
        yield Gateway(server.address, modelled.model)


@pytest.fixture(params=["modelled", "behind"])
def gateway(request: pytest.FixtureRequest) -> Gateway:
    """Each of the gateways in its turn."""
    found: Gateway = request.getfixturevalue(request.param)
    return found
