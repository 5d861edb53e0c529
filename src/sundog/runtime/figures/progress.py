"""The point that a run has come to, as numbers that anybody may read at any time.

Owns the counters. Never prints.
"""

from __future__ import annotations

from dataclasses import dataclass

from sundog.host.attempt import Attempt
from sundog.host.waits import Wait


@dataclass(slots=True)
class Progress:
    """Counts of rows of the whole run, and of calls and tokens of this process."""

    #: None while it is not known.
    num_rows: int | None = None
    #: Rows that an earlier process had ended.
    num_restored: int = 0
    #: Calls that it had executed.
    num_restored_executed: int = 0
    num_done: int = 0
    num_failed: int = 0
    num_dropped: int = 0
    #: Rows made of rows that failed.
    num_not_run: int = 0
    num_asked: int = 0
    #: Answered calls of the rows that ended here.
    num_asked_by_ended: int = 0
    num_executed: int = 0
    #: Calls answered without executing them.
    num_reused: int = 0
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    elapsed_s: float = 0.0
    #: The calls that wait for another attempt now, one entry for each engine or resource.
    waits: tuple[Wait, ...] = ()

    @property
    def num_ended(self) -> int:
        return self.num_done + self.num_failed + self.num_dropped + self.num_not_run

    def heard(self, attempt: Attempt) -> None:
        """Count the calls that an attempt has answered."""
        self.num_executed += attempt.num_answered
        if attempt.usage is not None:
            self.num_prompt_tokens += attempt.usage.num_prompt_tokens
            self.num_output_tokens += attempt.usage.num_output_tokens
