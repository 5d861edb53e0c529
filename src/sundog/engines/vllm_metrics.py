"""What a vLLM server tells of itself beside the OpenAI protocol: its metrics page.

Owns the address of the page and the names on it. Never decides what follows from them.
"""

from __future__ import annotations

import re

VLLM = "vllm"
"""What its list of models names as owner."""

# Of the form of 0.32: one sample whose labels are the settings of the KV cache.
_CACHE = re.compile(r"^vllm:cache_config_info\{(.*)\} ", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def metrics_url(base_url: str) -> str:
    """`base_url` ends in /v1; the page is beside it."""
    return f"{base_url.removesuffix('/v1')}/metrics"


def kv_capacity_tokens(page: str) -> int | None:
    """Tokens that the KV blocks hold; None where the page does not tell."""
    found = _CACHE.search(page)
    if found is None:
        return None
    labels = dict(_LABEL.findall(found.group(1)))
    try:
        return int(labels["num_gpu_blocks"]) * int(labels["block_size"])
    except (KeyError, ValueError):
        return None
