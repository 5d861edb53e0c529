"""The options of an engine block of kind `openai`.

Owns the options and their checks. Never connects.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from sundog.engines.base import EngineOptions
from sundog.engines.openai.protocol.bodies import Api
from sundog.engines.pool import ServerPool, with_most_replicas


class ServerOptions(EngineOptions):
    """The options of every kind of server that speaks the OpenAI protocol."""

    #: Up to and with `/v1`, with a query where the server wants one; several are replicas of one model.
    base_url: str | tuple[str, ...] = ()
    #: The servers come and go; None where `base_url` names them, or they are started here.
    pool: ServerPool | None = None
    api_key: str | None = None
    #: Further headers of every request.
    headers: dict[str, str] = Field(default_factory=dict)
    #: The certificates that are trusted; None for SSL_CERT_FILE, or else the system's.
    ca_file: str | None = None
    #: A URL, empty for none; None for what the environment names.
    proxy: str | None = None
    api: Api = "chat"
    #: The longest silence of the server in seconds, so for an answer that comes whole the time until it comes.
    timeout_s: float = Field(default=600.0, gt=0.0)
    #: None takes what the server tells.
    max_context_tokens: int | None = Field(default=None, ge=1)
    #: Further fields of every request; one that sundog would write is as it is here, or left out where it is null here.
    extra_body: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_pool(self) -> Self:
        if self.pool is None:
            return self
        if self.base_urls:
            raise ValueError("'pool' and 'base_url' both say where the servers are: leave one of them out")
        if self.pool.ray is not None and self.replicas != self.pool.ray.max:
            raise ValueError("the pool's 'max' says how many replicas there are: leave 'replicas' out")
        return self

    @property
    def base_urls(self) -> tuple[str, ...]:
        return (self.base_url,) if isinstance(self.base_url, str) else self.base_url


class OpenAIOptions(ServerOptions):
    """The options of `kind: openai`."""

    #: The server takes `priority` (vLLM with the priority policy).
    has_priority: bool = False
    #: The server keeps prefixes, so calls with a common one go together.
    has_prefix_cache: bool = True

    @model_validator(mode="before")
    @classmethod
    def _count_replicas(cls, written: Any) -> Any:
        """Fill in the number of replicas, so that options read from a plan, where every field is given, equal the
        written ones."""
        if not isinstance(written, dict):
            return written
        urls = written.get("base_url")
        if isinstance(urls, list | tuple) and urls:
            return {"replicas": len(urls), **written}
        return with_most_replicas(written)

    @model_validator(mode="after")
    def _check_replicas(self) -> Self:
        if self.pool is not None:
            if self.pool.ray is not None:
                raise ValueError("servers on Ray are started by sundog, which only engines of kind 'vllm' are")
            return self
        if not self.base_urls:
            raise ValueError("'base_url' or 'pool' says where the servers are")
        if self.replicas != len(self.base_urls):
            raise ValueError("every base_url is one replica: leave 'replicas' out and list the addresses in 'base_url'")
        return self
