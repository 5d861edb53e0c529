"""The views of policies on fleets: how many replicas there should be, and what they are to do.

Owns these records. The owner of replicas fills them; the core has none, and hears of replicas when they come and go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Literal


@dataclass(frozen=True, slots=True)
class FleetView:
    """The replicas of one pool, for whoever rents them and gives them back."""

    time_s: float
    #: The replicas that take requests, and those that are starting.
    num_replicas: int
    max_replicas: int
    #: Calls that run or wait.
    num_calls: int
    #: Calls that one replica is to have.
    num_target_calls: int
    #: Seconds from the order of a replica until it takes requests.
    start_s: float = 0.0
    #: When all is to have ended; infinite where nobody told.
    finish_s: float = inf
    #: Seconds of one replica for all calls that have not ended, as far as is measured; None before the first has ended.
    remaining_s: float | None = None


@dataclass(frozen=True, slots=True)
class PrefillView:
    """The replicas that compute prompts, where others decode."""

    num_replicas: int
    #: Tokens of prompts that were let in and are to be computed, over those of a full step of every replica.
    num_full_steps: float


@dataclass(frozen=True, slots=True)
class DecodeView:
    """The replicas that decode, where others compute prompts."""

    num_replicas: int
    #: Requests whose prompts were computed, and which no replica has taken.
    num_waiting: int
    #: The share of their places, or of their KV blocks where those are scarcer, that requests have.
    usage: float


Scale = Callable[[FleetView], int]
"""Replicas that a pool should have, whatever its bounds."""
Flip = Literal["to_prefill", "to_decode"]
FlipRole = Callable[[PrefillView, DecodeView], Flip | None]
"""The phase to which a replica of the other one goes; None where all stay."""
