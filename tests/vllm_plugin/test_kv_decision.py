"""Load or compute: the table."""

from __future__ import annotations

import pytest

from sundog.vllm_plugin.kv.decision import PrefillCost, is_loading_cheaper

MILLISECOND_A_TOKEN = PrefillCost(1e-3)
PAIRS_ONLY = PrefillCost(0.0, 1e-6)


@pytest.mark.parametrize(
    ("num_tokens", "num_context_tokens", "load_s_per_byte", "prefill", "is_cheaper"),
    [
        (0, 0, 0.0, None, False),
        (32, 0, 1.0, None, True),
        # 1,000 bytes a token: 1 ms a token to compute, 0.9 ms or 1 ms or 1.1 ms to load.
        (2048, 0, 0.9e-6, MILLISECOND_A_TOKEN, True),
        (2048, 0, 1.0e-6, MILLISECOND_A_TOKEN, False),
        (2048, 0, 1.1e-6, MILLISECOND_A_TOKEN, False),
        (32, 100_000, 1.1e-6, MILLISECOND_A_TOKEN, False),
        # Attention alone, 1 us a pair: 100 tokens have 5,000 pairs, and 105,000 after 1,000 others.
        (100, 0, 0.04e-6, PAIRS_ONLY, True),
        (100, 0, 0.06e-6, PAIRS_ONLY, False),
        (100, 1000, 1.0e-6, PAIRS_ONLY, True),
        (100, 1000, 1.1e-6, PAIRS_ONLY, False),
    ],
)
def test_the_cheaper_of_the_two(
    num_tokens: int, num_context_tokens: int, load_s_per_byte: float, prefill: PrefillCost | None, is_cheaper: bool
) -> None:
    assert is_loading_cheaper(num_tokens, num_context_tokens, 1000, load_s_per_byte, prefill) is is_cheaper
