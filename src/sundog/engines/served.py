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
    """This class says how to start one server."""

    argv: tuple[str, ...]
    #: Variables beside those of this process.
    environment: Mapping[str, str]
    base_url: str
    health_url: str
    #: Facts that tell the servers of one command from those of another: no port, no secret.
    identity: Mapping[str, Any]
    #: Seconds after which it counts as failed to start.
    ready_timeout_s: float


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """The state that a server tells of this moment. Counters count since its start."""

    num_running: int = 0
    num_waiting: int = 0
    #: Share of its KV blocks in use, in [0, 1].
    kv_usage: float = 0.0
    num_preemptions: int = 0
    #: Prompt tokens looked up in its prefix cache.
    num_queried_tokens: int = 0
    #: Prompt tokens found there.
    num_cached_tokens: int = 0


@runtime_checkable
class Watched(Protocol):
    """An engine whose server may go away and come back."""

    #: Set when an attempt ended as if it were gone.
    suspicion: asyncio.Event
    #: Seconds that it may stay away before it counts as lost.
    max_down_s: float

    async def probe(self) -> ReplicaLoad:
        """Return its load; EngineUnavailable when it is not there or says that it is ill, EngineTimeout when it is
        silent."""
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
        """Return the engine of a server that was started, not started itself."""
        ...
