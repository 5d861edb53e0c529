"""Load a prefix or compute it again: the cheaper of the two.

Owns the comparison, as pure arithmetic. Never measures and never reads a file.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PrefillCost:
    """Seconds of prefill: for each token, and for each pair of a token and one it attends to. The step itself is not
    counted: it happens in either case."""

    s_per_token: float
    s_per_pair: float = 0.0

    def seconds(self, num_tokens: int, num_context_tokens: int) -> float:
        """Return the seconds to compute `num_tokens` after `num_context_tokens` that are there."""
        pairs = num_tokens * num_context_tokens + num_tokens**2 / 2
        return num_tokens * self.s_per_token + pairs * self.s_per_pair


def is_loading_cheaper(
    num_tokens: int, num_context_tokens: int, bytes_per_token: int, load_s_per_byte: float, prefill: PrefillCost | None
) -> bool:
    """Return whether to load `num_tokens` found in the store, after `num_context_tokens` that are in the engine
    already.

    All or nothing: the seconds saved are convex in the number of tokens and zero at none, so a part of what was found
    never gains more than all of it. Without a prefill cost: yes.
    """
    if num_tokens == 0:
        return False
    if prefill is None:
        return True
    return num_tokens * bytes_per_token * load_s_per_byte < prefill.seconds(num_tokens, num_context_tokens)
