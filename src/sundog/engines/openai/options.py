"""The options of an engine block of kind `openai`.

Owns the options and their checks. Never connects.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from sundog.engines.base import EngineOptions
from sundog.engines.openai.protocol.bodies import Api


class ServerOptions(EngineOptions):
    """The options of every kind of server that speaks the OpenAI protocol."""

    #: Up to and with `/v1`, with a query where the server wants one; several are replicas of one model.
    base_url: str | tuple[str, ...]
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
        urls = written.get("base_url") if isinstance(written, dict) else None
        return {"replicas": len(urls), **written} if isinstance(urls, list | tuple) and urls else written

    @model_validator(mode="after")
    def _check_replicas(self) -> Self:
        if not self.base_urls:
            raise ValueError("base_url is empty")
        if self.replicas != len(self.base_urls):
            raise ValueError("every base_url is one replica: leave 'replicas' out and list the addresses in 'base_url'")
        return self
