"""Engines that are servers: what starts one, and what it tells of itself while it runs.

Owns the contract between such kinds and the runtime, which keeps the processes. Never starts one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from sundog.engines.base import Engine, EngineKind
from sundog.secrets import Secrets


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """How to start one server. `environment`: beside that of this process. `identity`: what tells the servers of one
    command from those of another: no port, no secret. `ready_timeout_s`: when it counts as failed to start."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    base_url: str
    health_url: str
    identity: Mapping[str, Any]
    ready_timeout_s: float


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """What a server says of this moment. `kv_usage`: share of its KV blocks in use, in [0, 1]. Counters since its
    start: `num_preemptions`, and prompt tokens looked up in its prefix cache (`num_queried_tokens`) and found there
    (`num_cached_tokens`)."""

    num_running: int = 0
    num_waiting: int = 0
    kv_usage: float = 0.0
    num_preemptions: int = 0
    num_queried_tokens: int = 0
    num_cached_tokens: int = 0


@runtime_checkable
class Watched(Protocol):
    """An engine whose server may go away and come back. `suspicion`: set when an attempt ended as if it were gone.
    `max_down_s`: how long it may stay away before it counts as lost."""

    suspicion: asyncio.Event
    max_down_s: float

    async def probe(self) -> ReplicaLoad:
        """Its load; EngineUnavailable when it is not there or says that it is ill, EngineTimeout when it is silent."""
        ...


@runtime_checkable
class ServedKind(EngineKind, Protocol):
    """A kind whose servers sundog can start."""

    def needs_server(self, options: Any) -> bool:
        """Return whether the replicas of this block are servers to start, and not addresses to attach to."""
        ...

    def starts_by_itself(self, options: Any) -> bool:
        """Return whether a run starts the servers that are not up, and stops them in its end."""
        ...

    def server(self, options: Any, replica: int, port: int, secrets: Secrets) -> ServerCommand:
        """Return what starts replica number `replica` (from 0) on a port of this machine; ConfigError when it
        cannot."""
        ...

    def attach(self, options: Any, base_url: str, secrets: Secrets) -> Engine:
        """The engine of a server that was started, not started itself."""
        ...
