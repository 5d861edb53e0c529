"""The number of draft tokens that are worth verifying: what is measured for it, and the cut.

Owns the acceptance rate and the time of a step by its tokens. The policy decides (SmartSpec, arXiv 2406.14066).
"""

from __future__ import annotations

from sundog.sched.policy import DraftLength
from sundog.sched.views import EngineStepView, SchedView

KEPT = 0.99
"""Weight that the past keeps at each step."""
PRIOR_STEP_S = 1e-3
MAX_STEPS_WITHOUT = 500


class Drafts:
    """Counts of draft tokens, and a line through the times of steps over their tokens; both forget."""

    def __init__(self, draft: DraftLength, max_draft_tokens: int) -> None:
        self._draft = draft
        self._max_draft_tokens = max_draft_tokens
        self._num_accepted = self._num_rejected = 0.0
        self._num_steps_without = 0
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    def length(self, num_requests: int, sched: SchedView) -> int:
        """Return the number for each of the `num_requests` that decode in the step to come."""
        wished = self._draft(
            EngineStepView(
                num_requests,
                self._max_draft_tokens,
                step_s=lambda num_draft_tokens: self.step_s(num_requests * (1 + num_draft_tokens)),
                acceptance_rate=self.acceptance_rate,
            ),
            sched,
        )
        self._num_steps_without += wished == 0
        if self._num_steps_without > MAX_STEPS_WITHOUT:
            # Nothing is measured without drafts: forget, so that they are tried again.
            self._num_steps_without, self._num_accepted, self._num_rejected = 0, 0.0, 0.0
        assert 0 <= wished <= self._max_draft_tokens, f"a draft of {wished} tokens of {self._max_draft_tokens}"
        return wished

    @property
    def acceptance_rate(self) -> float | None:
        """The acceptance of one draft token, given that those before it were accepted: what follows a rejected one was
        not tried."""
        num_tried = self._num_accepted + self._num_rejected
        return self._num_accepted / num_tried if num_tried else None

    def verified(self, num_drafted: int, num_accepted: int) -> None:
        """Count one request's drafts of one step."""
        self._num_accepted = KEPT * self._num_accepted + num_accepted
        self._num_rejected = KEPT * self._num_rejected + (num_accepted < num_drafted)

    def measure(self, num_tokens: int, elapsed_s: float) -> None:
        """A step of `num_tokens` has taken so long."""
        self._weight = KEPT * self._weight + 1
        self._x = KEPT * self._x + num_tokens
        self._y = KEPT * self._y + elapsed_s
        self._xx = KEPT * self._xx + num_tokens**2
        self._xy = KEPT * self._xy + num_tokens * elapsed_s

    def step_s(self, num_tokens: int) -> float:
        """Return the predicted seconds; never less for more tokens."""
        if not self._weight:
            return PRIOR_STEP_S
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        variance = self._xx / self._weight - mean_x**2
        slope = max(0.0, (self._xy / self._weight - mean_x * mean_y) / variance) if variance > 0 else 0.0
        return max(PRIOR_STEP_S, mean_y + slope * (num_tokens - mean_x))
