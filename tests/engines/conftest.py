"""A server for the tests of a module, that each of them finds without a script and leaves so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engines.server import Server, running_server


@pytest.fixture(scope="module")
def module_server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def server(module_server: Server) -> Iterator[Server]:
    module_server.exchanges.clear()
    yield module_server
    assert not module_server.script, "the server was to be asked more often"
