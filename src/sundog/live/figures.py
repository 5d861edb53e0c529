"""The figures of one served flow: what its calls took, and how many of them were answered without being made.

Owns the counts. Metrics, pages and the history read them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict, deque
from dataclasses import dataclass

from sundog.host.attempt import Attempt
from sundog.measured.node_history import Observations

CALL_BOUNDS_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""The buckets of the GenAI conventions."""
NUM_RECENT = 512


class CallFigures:
    """This class counts the attempts of one step, or of the gateway, at one engine or tool."""

    def __init__(self) -> None:
        #: Attempts by outcome.
        self.num_by_outcome: Counter[str] = Counter()
        #: Attempts that succeeded, by bucket; the last one has no bound.
        self.num_by_bucket = [0] * (len(CALL_BOUNDS_S) + 1)
        self.total_s = 0.0
        self.num_prompt_tokens = 0
        self.num_cached_tokens = 0
        #: Prompt tokens of answers that tell of the prefix cache.
        self.num_queried_tokens = 0
        self.num_output_tokens = 0
        #: Seconds of the attempts that succeeded last.
        self.recent_s: deque[float] = deque(maxlen=NUM_RECENT)

    def heard(self, attempt: Attempt) -> None:
        """Count an attempt that has ended."""
        self.num_by_outcome[attempt.outcome] += 1
        if attempt.outcome == "succeeded":
            seconds = attempt.ended_s - attempt.began_s
            self.num_by_bucket[bisect_left(CALL_BOUNDS_S, seconds)] += 1
            self.total_s += seconds
            self.recent_s.append(seconds)
        if (usage := attempt.usage) is not None:
            self.num_prompt_tokens += usage.num_prompt_tokens
            self.num_output_tokens += usage.num_output_tokens
            if usage.num_cached_tokens is not None:
                self.num_queried_tokens += usage.num_prompt_tokens
                self.num_cached_tokens += usage.num_cached_tokens


@dataclass(slots=True)
class StepCounts:
    """The calls of one step."""

    num_asked: int = 0
    num_executed: int = 0
    num_reused: int = 0
    #: Attempts that failed; another one may have followed.
    num_failed: int = 0


NO_STEP_COUNTS = StepCounts()


class ReplicaFigures:
    """This class counts what the answers of one replica tell of its prefix cache."""

    def __init__(self) -> None:
        self.num_queried_tokens = 0
        self.num_cached_tokens = 0

    def heard(self, attempt: Attempt) -> None:
        """Count an attempt that has ended."""
        if attempt.usage is not None and attempt.usage.num_cached_tokens is not None:
            self.num_queried_tokens += attempt.usage.num_prompt_tokens
            self.num_cached_tokens += attempt.usage.num_cached_tokens


class FlowFigures:
    """This class counts the calls of one flow."""

    def __init__(self) -> None:
        self.observations = Observations()
        #: By step.
        self.steps: defaultdict[str, StepCounts] = defaultdict(StepCounts)
        self.num_prompt_tokens = 0
        self.num_cached_tokens = 0
        self.num_output_tokens = 0

    @property
    def num_asked(self) -> int:
        """Calls that steps of rows asked for."""
        return sum(step.num_asked for step in self.steps.values())

    @property
    def num_executed(self) -> int:
        return sum(step.num_executed for step in self.steps.values())

    @property
    def num_reused(self) -> int:
        """Calls that a result, or an equal call in flight, has answered."""
        return sum(step.num_reused for step in self.steps.values())

    def asked(self, step: str) -> None:
        """A step of a row asked for a call."""
        self.steps[step].num_asked += 1

    def reused(self, step: str, *, is_of_another_run: bool) -> None:
        """A result that was there, or that an equal call gives, is the answer to a call."""
        self.steps[step].num_reused += 1

    def passed(self, node: str) -> None:
        """A row has passed a node. Nothing drains in a run without an end."""

    def heard(self, attempt: Attempt, model: str) -> None:
        """Count the calls that an attempt has answered."""
        step = self.steps[attempt.step]
        step.num_executed += attempt.num_answered
        step.num_failed += attempt.outcome == "failed"
        if attempt.usage is not None:
            self.num_prompt_tokens += attempt.usage.num_prompt_tokens
            self.num_cached_tokens += attempt.usage.num_cached_tokens or 0
            self.num_output_tokens += attempt.usage.num_output_tokens
        self.observations.heard(attempt, model)
