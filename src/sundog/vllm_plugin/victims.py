"""The choice of who is preempted: vLLM takes the last of the running requests, so the worst by our rank is put there.

Owns that order. Requests without an envelope keep their places, and with them their turn as victims. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Running = TypeVar("Running")


def worst_last(running: Sequence[Running], rank_of: Callable[[Running], tuple[float, ...] | None]) -> list[Running]:
    """Return `running` with its ranked requests in order of rank, in the places that ranked requests had."""
    ranks = [rank_of(request) for request in running]
    ranked = sorted(
        ((rank, place) for place, rank in enumerate(ranks) if rank is not None),
    )
    best_first = iter(running[place] for _, place in ranked)
    return [request if rank is None else next(best_first) for request, rank in zip(running, ranks, strict=True)]
