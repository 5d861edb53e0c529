"""The figures of one served flow: what its calls took, and how many of them were answered without being made.

Owns the counts. Metrics, pages and the history read them.
"""

from __future__ import annotations

from sundog.host.attempt import Attempt
from sundog.measured.node_history import Observations


class FlowFigures:
    """This class counts the calls of one flow."""

    def __init__(self) -> None:
        self.observations = Observations()
        #: Calls that steps of rows asked for.
        self.num_asked = 0
        self.num_executed = 0
        #: Calls that a result, or an equal call in flight, has answered.
        self.num_reused = 0
        self.num_prompt_tokens = 0
        self.num_cached_tokens = 0
        self.num_output_tokens = 0

    def asked(self) -> None:
        """A step of a row asked for a call."""
        self.num_asked += 1

    def reused(self, step: str, *, is_of_another_run: bool) -> None:
        """A result that was there, or that an equal call gives, is the answer to a call."""
        self.num_reused += 1

    def passed(self, node: str) -> None:
        """A row has passed a node. Nothing drains in a run without an end."""

    def heard(self, attempt: Attempt, model: str) -> None:
        """Count the calls that an attempt has answered."""
        self.num_executed += attempt.num_answered
        if attempt.usage is not None:
            self.num_prompt_tokens += attempt.usage.num_prompt_tokens
            self.num_cached_tokens += attempt.usage.num_cached_tokens or 0
            self.num_output_tokens += attempt.usage.num_output_tokens
        self.observations.heard(attempt, model)
