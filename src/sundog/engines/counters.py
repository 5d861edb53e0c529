"""The counts of one replica's requests, for `Engine.stats`.

Owns the numbers. Never reads a clock, never keeps a request.
"""

from __future__ import annotations

from sundog.engines.base import EngineStats, Usage


class Counters:
    """A request runs as long as its `with` block lasts."""

    def __init__(self) -> None:
        self._num_requests = self._num_running = 0
        self._num_prompt_tokens = self._num_cached_tokens = self._num_output_tokens = 0

    def __enter__(self) -> None:
        self._num_requests += 1
        self._num_running += 1

    def __exit__(self, *raised: object) -> None:
        self._num_running -= 1

    def add(self, usage: Usage) -> None:
        """A request has been answered."""
        self._num_prompt_tokens += usage.num_prompt_tokens
        self._num_cached_tokens += usage.num_cached_tokens or 0
        self._num_output_tokens += usage.num_output_tokens

    def stats(self) -> EngineStats:
        """Return the counts so far."""
        return EngineStats(
            num_requests=self._num_requests,
            num_running=self._num_running,
            num_prompt_tokens=self._num_prompt_tokens,
            num_cached_tokens=self._num_cached_tokens,
            num_output_tokens=self._num_output_tokens,
        )
