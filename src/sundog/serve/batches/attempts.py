"""The answer of one attempt at a line of a batch, and whether there is another one.

Owns which failures pass, and how long is waited for that. Never makes an attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_ATTEMPTS = 4
MAX_WAIT_S = 30.0
PATIENT_STATUSES = (429, 503, 529)
"""Whoever says so has no room, or is away: a batch has the time to wait until that is over."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """The answer of one attempt."""

    status: int
    #: JSON.
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The failure that there is beside an answer, None where there is none.
    error: dict[str, Any] | None = None

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300 and self.error is None

    @property
    def is_patient(self) -> bool:
        """Return whether nothing has failed but the moment."""
        return self.status in PATIENT_STATUSES

    def wait_s(self, num_attempts: int, num_failures: int) -> float | None:
        """Return the seconds until the next attempt, None where this is the line's end. `num_attempts`: with this one;
        `num_failures`: of these, those for which patience is no help."""
        is_transient = self.is_patient or self.status >= 500
        if not is_transient or self.headers.get("x-should-retry") == "false" or num_failures >= MAX_ATTEMPTS:
            return None
        told, backoff_s = self.headers.get("retry-after", ""), min(MAX_WAIT_S, 0.25 * 2.0 ** min(num_attempts, 10))
        return max(backoff_s, min(float(told), MAX_WAIT_S)) if told.isdigit() else backoff_s


GONE = Attempted(503, b"{}")
"""What the line asks for is not served now; it was, when the batch began."""
