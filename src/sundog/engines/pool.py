"""The pool of an engine whose servers come and go: where they are found, and what is asked for.

Owns the key `pool` of an engine's block, and the contract of kinds that have it. Never looks for a server.
"""

from __future__ import annotations

import re
from typing import Any, Protocol, Self, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sundog.engines.base import Engine, EngineKind
from sundog.engines.served import ServerCommand
from sundog.secrets import Secrets

_SERVICE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z]([-a-z0-9]*[a-z0-9])?")


class RayReplicas(BaseModel):
    """The servers that a run on a Ray cluster starts and ends as it needs them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    #: Servers at least, while there is work.
    min: int = Field(default=0, ge=0)
    max: int = Field(ge=1)
    #: GPUs of one server.
    gpus: float = Field(default=1.0, ge=0.0)
    #: Processors of one server.
    cpus: float = Field(default=1.0, gt=0.0)

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.min > self.max:
            raise ValueError("'min' is greater than 'max'")
        return self


class ServerPool(BaseModel):
    """One of `kubernetes` and `ray`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    #: The service whose ready endpoints are the servers, as namespace/service.
    kubernetes: str | None = None
    ray: RayReplicas | None = None
    #: The number or the name of the endpoints' port; None where they have one only.
    port: int | str | None = None
    #: It follows the endpoint's address.
    path: str = Field(default="/v1", pattern="^/")
    #: The endpoints speak TLS.
    tls: bool = False
    #: Seconds that the pool may be without a server before its calls are given up.
    max_empty_s: float = Field(default=900.0, gt=0.0)

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.kubernetes is None) == (self.ray is None):
            raise ValueError("a pool is 'kubernetes' or 'ray', one of them")
        if self.kubernetes is not None and not _SERVICE.fullmatch(self.kubernetes):
            raise ValueError("'kubernetes' names a service: namespace/service")
        if self.ray is not None and (self.port is not None or self.tls or self.path != "/v1"):
            raise ValueError("'port', 'path' and 'tls' are of the endpoints of a Kubernetes service")
        return self

    @property
    def shown(self) -> str:
        """Return where its servers come from, in words."""
        if self.ray is None:
            return f"Kubernetes service {self.kubernetes}"
        return f"{self.ray.min:,} to {self.ray.max:,} servers on Ray"

    @property
    def most_replicas(self) -> int | None:
        """Return how many servers it has at most; None where nobody knows."""
        return None if self.ray is None else self.ray.max


@runtime_checkable
class PooledKind(EngineKind, Protocol):
    """A kind whose replicas may be servers that come and go."""

    def pool(self, options: Any) -> ServerPool | None:
        """Return the pool of a block; None where its replicas are known."""
        ...

    def at(self, options: Any, base_url: str, secrets: Secrets) -> Engine:
        """Return the engine of one server of the pool, not started."""
        ...


@runtime_checkable
class PoolServedKind(PooledKind, Protocol):
    """A kind whose pool may have servers that a run starts."""

    def pool_server(self, options: Any, host: str, port: int, secrets: Secrets) -> ServerCommand:
        """Return the command that starts one server of the pool on this machine, at an address and port of it.
        ConfigError where the machine lacks what the server needs."""
        ...


def with_most_replicas(written: dict[str, Any]) -> dict[str, Any]:
    """Return what a written block means with the number of replicas that estimates count with: the most that its pool
    has, where that is known."""
    match written:
        case {"pool": {"ray": {"max": int(most)}}}:
            return {"replicas": most, **written}
        case {"pool": ServerPool(ray=RayReplicas(max=most))}:
            return {"replicas": most, **written}
    return written
