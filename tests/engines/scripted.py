"""An `openai` engine on a server whose answers a test scripts, one for each request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple

from sundog.engines.openai.engine import OpenAIKind
from sundog.engines.openai.options import OpenAIOptions
from sundog.secrets import Secrets
from tests.engines.conformance import Started
from tests.engines.server import MODEL, Server, running_server


class Scripted(NamedTuple):
    server: Server
    started: Started


@contextmanager
def scripted_engine() -> Iterator[Scripted]:
    with running_server() as server:
        options = OpenAIOptions(model=MODEL, base_url=server.base_url)
        with closing(Started(OpenAIKind().open(options, 0, Secrets({})))) as started:
            yield Scripted(server, started)
