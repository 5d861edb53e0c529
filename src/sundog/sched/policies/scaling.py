"""Scaling: how many replicas a pool should have. Pure; whoever rents replicas asks now and then, and keeps the answers.

Sources: the horizontal autoscaler of Kubernetes (kubernetes.io, "Horizontal Pod Autoscaling") for the rule by queue and
for what settles an answer, as the production stack of vLLM uses it through KEDA (docs.vllm.ai, "Autoscaling with
KEDA"). The rule by remaining work is ours: a batch ends, and a service does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from sundog.sched.fleets import FleetView

HEADROOM = 0.1
"""A share of the remaining work, added to it: the last rows end one after another, not all at once."""
ROUNDING = 1e-9


def by_queue(fleet: FleetView) -> int:
    """Return as many replicas as the calls need that run or wait, each with its target of them.

    What runs counts too, as in Knative's autoscaler: by waiting calls alone (`vllm:num_requests_waiting`) a fleet that
    just keeps up would be sent away. Loses where calls come all at once, as in a batch: it rents all there is at the
    begin, and does not know how long they would take.

    >>> by_queue(FleetView(time_s=0, num_replicas=1, max_replicas=8, num_calls=33, num_target_calls=16))
    3
    """
    return ceil(fleet.num_calls / fleet.num_target_calls)


def by_remaining_work(fleet: FleetView) -> int:
    """Return the fewest replicas with which the remaining work ends at `finish_s`, those that would be ordered now from
    `start_s` on; all that may be where none are enough, and those that there are while nothing is measured.

    Loses where later calls take longer than those before them did, or steps wait for each other: work is taken to
    divide evenly.

    >>> fleet = FleetView(0.0, 2, 8, 100, 16, start_s=60.0, finish_s=660.0, remaining_s=3000.0)
    >>> by_remaining_work(fleet)  # 3,300 s of work: 1,320 by the two that are there, and 1,980 in 600 s each
    6
    """
    if fleet.remaining_s is None:
        return fleet.num_replicas
    work_s, left_s = fleet.remaining_s * (1.0 + HEADROOM), fleet.finish_s - fleet.time_s
    if left_s <= 0.0:
        return fleet.max_replicas if work_s else fleet.num_replicas
    if work_s <= fleet.num_replicas * left_s:
        return ceil(work_s / left_s - ROUNDING)
    useful_s = left_s - fleet.start_s
    if useful_s <= 0.0:
        return fleet.max_replicas
    return fleet.num_replicas + ceil((work_s - fleet.num_replicas * left_s) / useful_s - ROUNDING)


def settled(wish: int, recent_wishes: Iterable[int], num_replicas: int, least: int, most: int) -> int:
    """Return how many replicas there are to be, from `least` to `most`: more as soon as they are wished for, fewer only
    as far as every recent wish allows, so that a lull sends none away that the next minute needs.

    >>> settled(9, [2, 4], num_replicas=5, least=1, most=8), settled(2, [2, 4], num_replicas=5, least=1, most=8)
    (8, 4)
    """
    wished = max(wish, min(num_replicas, max(recent_wishes, default=wish)))
    return max(least, min(most, wished))
