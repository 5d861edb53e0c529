"""The health of a vLLM server: one look tells whether it is well, and how busy it is.

Owns one look at its health and metrics pages. Never decides what follows.
"""

from __future__ import annotations

from typing import Protocol

from sundog.engines.served import ReplicaLoad
from sundog.engines.vllm.metrics import health_url, metrics_url, replica_load
from sundog.errors import EngineTimeout, EngineUnavailable
from sundog.transport.answer import WholeAnswer
from sundog.transport.faults import ConnectTimeout, Silent, TransportFault

PROBE_TIMEOUT_S = 10.0


class Getter(Protocol):
    """This class asks for pages: `__call__` gives the answer or raises a TransportFault."""

    async def __call__(self, url: str, *, within_s: float) -> WholeAnswer: ...


async def probe(get: Getter, base_url: str, shown_url: str) -> ReplicaLoad:
    """Return what the server at `base_url` says of itself; errors as of Watched.probe."""
    try:
        health = await get(health_url(base_url), within_s=PROBE_TIMEOUT_S)
        if health.status != 200:
            what = f"the server says that it is ill ({health.status})"
            raise EngineUnavailable(what, where=shown_url, retryable=True)
        page = await get(metrics_url(base_url), within_s=PROBE_TIMEOUT_S)
        return replica_load(page.body.decode("utf-8", "replace"))
    except (Silent, ConnectTimeout) as fault:
        raise EngineTimeout("the server is silent", where=shown_url, retryable=True) from fault
    except TransportFault as fault:
        raise EngineUnavailable(f"no server answers: {fault.what}", where=shown_url, retryable=True) from fault
