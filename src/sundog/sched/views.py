"""What a policy may see: requests, replicas and the moment. Read-only for policies, written by the core alone.

Owns the books' records. Never decides. Attribute names are vLLM's where the meaning is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sundog.sched.prefix_index import PrefixIndex


@dataclass(slots=True)
class RequestView:
    """One request from its arrival to its end. `failed_replicas`: where an attempt of it failed."""

    request_id: str
    pool: str
    arrival_time: float = 0.0
    row_index: int = 0
    depth: int = 0
    num_prompt_tokens: int = 0
    num_expected_output_tokens: int = 0
    prefix_key: tuple[int, ...] = ()
    max_attempts: int = 1
    num_attempts: int = 0
    replica_id: str | None = None
    failed_replicas: tuple[str, ...] = ()

    @property
    def num_tokens(self) -> int:
        """KV tokens it will hold at its peak."""
        return self.num_prompt_tokens + self.num_expected_output_tokens


@dataclass(slots=True)
class ReplicaView:
    """One replica. `num_routed`: requests ever sent to it; `num_tokens_in_flight`: predicted peak of what runs."""

    replica_id: str
    pool: str
    max_concurrency: int = 1
    max_tokens_in_flight: int | None = None
    num_running: int = 0
    num_tokens_in_flight: int = 0
    num_routed: int = 0
    prefixes: PrefixIndex = field(default_factory=lambda: PrefixIndex(0))


@dataclass(slots=True)
class SchedView:
    """The moment: `time_s` of the event being handled, `num_waiting` in the pool at hand."""

    time_s: float = 0.0
    num_waiting: int = 0
