"""The metrics page of a vLLM server, which it serves beside the OpenAI protocol.

Owns the address of the page and the names on it. Never decides what follows from them.
"""

from __future__ import annotations

import re

from sundog.engines.served import ReplicaLoad

VLLM = "vllm"
"""The owner that its list of models names."""

# The form of vLLM 0.32: one sample whose labels are the settings of the KV cache.
_CACHE = re.compile(r"^vllm:cache_config_info\{(.*)\} ", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
# A sample may also be NaN or +Inf, which no load is.
_NUMBER = re.compile(r"\d+(\.\d+)?([eE][+-]?\d{1,2})?", re.ASCII)
_SAMPLE = re.compile(r"^vllm:(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


def server_root(base_url: str) -> str:
    """Return the root of a server whose `base_url` ends in /v1: what is no part of the OpenAI protocol is there,
    without the query."""
    return base_url.strip().partition("#")[0].partition("?")[0].rstrip("/").removesuffix("/v1")


def metrics_url(base_url: str) -> str:
    return f"{server_root(base_url)}/metrics"


def health_url(base_url: str) -> str:
    return f"{server_root(base_url)}/health"


def kv_capacity_tokens(page: str) -> int | None:
    """Return the number of tokens that the KV blocks hold; None where the page does not tell."""
    found = _CACHE.search(page)
    if found is None:
        return None
    labels = dict(_LABEL.findall(found.group(1)))
    try:
        return int(labels["num_gpu_blocks"]) * int(labels["block_size"])
    except (KeyError, ValueError):
        return None


def replica_load(page: str) -> ReplicaLoad:
    """Return the load that a page tells; what is not on it is 0. Of several engines behind one address (data parallel)
    counts are added, and the fullest one's KV usage is given."""
    values: dict[str, list[float]] = {}
    for name, value in _SAMPLE.findall(page):
        if _NUMBER.fullmatch(value):
            values.setdefault(name, []).append(float(value))

    def total(name: str) -> int:
        return int(sum(values.get(name, ())))

    return ReplicaLoad(
        num_running=total("num_requests_running"),
        num_waiting=total("num_requests_waiting"),
        kv_usage=max(values.get("kv_cache_usage_perc", (0.0,))),
        num_preemptions=total("num_preemptions_total"),
        num_queried_tokens=total("prefix_cache_queries_total"),
        num_cached_tokens=total("prefix_cache_hits_total"),
    )
