"""The record of what each engine step computed and how long it took, for the cost model.

Owns a bounded buffer of steps. Never reads a clock: the scheduler brings the times.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True)
class StepTelemetry:
    """One engine step. The names are those of the step-time model."""

    number: int
    time_s: float
    num_prefill_tokens: int = 0
    num_decode_tokens: int = 0
    #: Tokens that the decoding requests attend to.
    num_context_tokens: int = 0
    #: The sum over prefill chunks of chunk * context + chunk^2 / 2.
    num_attention_pairs: float = 0.0
    num_running: int = 0
    num_waiting: int = 0
    num_preempted: int = 0
    num_free_blocks: int = 0
    num_kept_blocks: int = 0
    #: Seconds from the end of scheduling (or the end of the step before, if that is later) to the outputs.
    elapsed_s: float = 0.0

    def add(self, num_scheduled: int, num_context: int, num_tokens: int) -> None:
        """Add one request of the step: `num_scheduled` tokens after `num_context` that it had computed, of `num_tokens`
        that it has. Who lacks its last one only decodes."""
        if num_context + 1 < num_tokens:
            self.num_prefill_tokens += num_scheduled
            self.num_attention_pairs += num_scheduled * num_context + num_scheduled**2 / 2
        else:
            self.num_decode_tokens += num_scheduled
            self.num_context_tokens += num_context


class Telemetry:
    """The last `max_steps` steps. Several may be in flight at once; they end in order."""

    def __init__(self, max_steps: int) -> None:
        self._steps: deque[StepTelemetry] = deque(maxlen=max_steps)
        self._open: deque[tuple[object, StepTelemetry]] = deque()
        self._num_steps = 0
        self._last_end_s = 0.0

    def begin(self, key: object, time_s: float) -> StepTelemetry:
        """Note a step that has been scheduled.

        `key`: what `end` will know it by.
        """
        step = StepTelemetry(self._num_steps, time_s)
        self._num_steps += 1
        self._open.append((key, step))
        return step

    def end(self, key: object, time_s: float) -> StepTelemetry | None:
        """Return what a step computed and took.

        The step has ended, and those before it that nobody ended computed nothing. None for an unknown key.
        """
        while self._open:
            found, step = self._open.popleft()
            if found is key:
                # The wall clock may be set back in between.
                step.elapsed_s = max(0.0, time_s - max(step.time_s, self._last_end_s))
                self._last_end_s = time_s
                self._steps.append(step)
                return step
        return None

    @property
    def num_steps(self) -> int:
        """Begun so far; the next one's number."""
        return self._num_steps

    def since(self, number: int) -> list[dict[str, Any]]:
        """Return the ended steps from this number on, as far as they are still here."""
        return [asdict(step) for step in self._steps if step.number >= number]
