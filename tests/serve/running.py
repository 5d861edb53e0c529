"""A server of the live host on loopback, in a thread of the test."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from sundog.agents.gateway_thread import GatewayThread, gateway_thread
from sundog.config import Config
from sundog.ir.logical import EngineBlock
from sundog.secrets import Secrets
from sundog.serve.connections.limits import ConnectionLimits
from sundog.serve.server import DEFAULT_LIMITS

Running = GatewayThread


def running(
    state_dir: Path,
    flows: Sequence[Path] = (),
    engines: Sequence[EngineBlock] = (),
    limits: ConnectionLimits = DEFAULT_LIMITS,
) -> AbstractContextManager[Running]:
    """Run a server until the context ends."""
    return gateway_thread(Config(state_dir, Secrets({})), engines, flows, limits, has_batches=True)
