"""The calls of the baselines to engines, database and server: the same clients and limits that sundog uses, and a
count.

Owns the one engine adapter of all baselines. Never shares, sorts or retries anything: arms do.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path
from typing import Any

from sqlalchemy import text

from halo.case import Case
from halo.graph import Rows
from halo.workloads.dialect import adapt
from sundog.engines.base import ENGINES, Engine, GenerateRequest, Message, Usage
from sundog.operators.sql.database import Database, Statement
from sundog.operators.sql.url import reveal_url
from sundog.secrets import Secrets
from sundog.transport.address import with_parameters
from sundog.transport.client import Client as HTTPClient
from sundog.transport.client import Request

MAX_TOOL_CALLS = 8
"""Calls at once on the database, and on the server: of every arm, sundog's too."""
TOOL_TIMEOUT_S = 60.0
MAX_ROWS = 10_000
MAX_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class LLMCall:
    """One executed call: what was asked and what it took."""

    model: str
    messages: tuple[Message, ...]
    usage: Usage


@dataclass
class Counts:
    """The counts of what was executed."""

    llm: list[LLMCall] = field(default_factory=list)
    num_sql: int = 0
    num_http: int = 0


class Client:
    """Implements `Calls` over engines, a database and a server. Open it with `open_client`."""

    def __init__(self, case: Case, base_url: str, secrets: Secrets) -> None:
        self.counts = Counts()
        self._case = case
        self._base_url = base_url
        self._database = Database(reveal_url(case.database, secrets), Path(), max_connections=MAX_TOOL_CALLS)
        self._http = HTTPClient()
        self._slots = {name: asyncio.Semaphore(MAX_TOOL_CALLS) for name in ("sql", "http")}
        self._engines = {model: open_engines(block, secrets) for model, block in case.blocks.items()}
        # Round robin: what clients do that know nothing of prefixes.
        self._turns = {model: cycle(replicas) for model, replicas in self._engines.items()}
        self._numbers = count()

    async def llm(self, model: str, system: str, prompt: str, max_tokens: int) -> str:
        messages = (Message("system", system), Message("user", prompt))
        engine, slots = next(self._turns[model])
        pieces: list[str] = []
        async with slots:
            request = GenerateRequest(str(next(self._numbers)), messages, max_tokens)
            async with aclosing(engine.generate(request)) as stream:
                async for chunk in stream:
                    pieces.append(chunk.text)
        assert chunk.usage is not None, "the last chunk has the usage"
        self.counts.llm.append(LLMCall(model, messages, chunk.usage))
        return "".join(pieces)

    async def sql(self, query: str, **params: Any) -> Rows:
        self.counts.num_sql += 1
        statement = Statement(text(adapt(query, self._case.database)), params, False, MAX_ROWS)
        async with self._slots["sql"]:
            return await self._database.execute(statement, timeout_s=TOOL_TIMEOUT_S)

    async def http(self, path: str, **params: Any) -> Any:
        self.counts.num_http += 1
        async with self._slots["http"]:
            url = with_parameters(self._base_url + path, ((name, str(value)) for name, value in params.items()))
            answer = await self._http.fetch(Request("GET", url), max_bytes=MAX_BYTES, within_s=TOOL_TIMEOUT_S)
        assert answer.status == 200, f"{path}: {answer.status}"
        return json.loads(answer.body)

    async def start(self) -> None:
        await asyncio.gather(*(engine.start() for replicas in self._engines.values() for engine, _ in replicas))

    async def close(self) -> None:
        for replicas in self._engines.values():
            for engine, _ in replicas:
                await engine.close()
        await self._http.close()
        self._database.close()


def open_engines(block: Mapping[str, Any], secrets: Secrets) -> list[tuple[Engine, asyncio.Semaphore]]:
    """The replicas of an engine block, not started, each with its limit."""
    kind = ENGINES.get(block["kind"])()
    options = kind.Options.model_validate({name: value for name, value in block.items() if name != "kind"})
    return [
        (kind.open(options, replica, secrets), asyncio.Semaphore(options.max_concurrency))
        for replica in range(kind.num_replicas(options))
    ]


@asynccontextmanager
async def open_client(case: Case, base_url: str, secrets: Secrets) -> AsyncIterator[Client]:
    client = Client(case, base_url, secrets)
    try:
        await client.start()
        yield client
    finally:
        await client.close()
