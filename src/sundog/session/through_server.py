"""A flow whose models are asked through a server of sundog, for `--via`: it fills what live load leaves there.

Owns which engine takes the place of each of the flow's. Never connects; a run looks at the server before its first
call, as at any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from sundog.deployment import opened
from sundog.errors import ConfigError
from sundog.ir.logical import EngineBlock, LogicalPlan

KIND = "openai"
TIER_HEADERS: Mapping[str, str] = {"x-llm-d-inference-objective": "batch"}
"""The header by which the server hears that live requests go first."""
LONGEST_SILENCE_S = 3_600.0
"""A call waits for as long as live load leaves it no room."""
_KEPT = frozenset(
    {"api", "extra_body", "has_prefix_cache", "has_priority", "max_context_tokens", "max_retry_wait_s"}
    | {"model", "price", "tool_calls"}
)
"""The options of a block that say how its model is asked, and not where; not every kind has all of them."""


def through_server(plan: LogicalPlan, address: str, api_key: str | None) -> LogicalPlan:
    """Return the plan with each engine replaced by the server's model of the same name. `api_key`: as a flow has
    it, None for none. ConfigError for what is no address."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"--via takes the address of a server, not '{address}'", hint="as http://127.0.0.1:8321")
    base_url = address.rstrip("/").removesuffix("/v1") + "/v1"
    counts = {group.name: group.count for group in plan.workers}
    engines = tuple(_asked(block, base_url, api_key, counts) for block in plan.engines)
    return replace(plan, engines=engines, workers=())


def _asked(block: EngineBlock, base_url: str, api_key: str | None, counts: Mapping[str, int]) -> EngineBlock:
    kind, options = opened(block)
    number = kind.num_replicas(options) if block.workers is None else counts[block.workers]
    written: dict[str, Any] = {name: value for name, value in block.options.items() if name in _KEPT}
    written |= {"base_url": base_url, "api_key": api_key, "headers": TIER_HEADERS, "timeout_s": LONGEST_SILENCE_S}
    written["max_concurrency"] = options.max_concurrency * number
    _, asked = opened(EngineBlock(block.name, KIND, written))
    return replace(block, kind=KIND, options=asked.model_dump(mode="json"), workers=None)
