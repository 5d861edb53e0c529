"""The figures of one process's part in a run: its recorder of attempts, and those who read it.

Owns who hears of an attempt. What has no attempt (a call that a result answers, a row) is counted here too.
"""

from __future__ import annotations

from collections.abc import Mapping

from sundog.host.attempt import Attempt
from sundog.host.recorder import Recorder
from sundog.measured.node_history import Observations
from sundog.runtime.figures.pool_work import PoolWork
from sundog.runtime.figures.progress import Progress


class RunFigures:
    """Progress, history and work bound listen to the recorder; report and placement ask it for its sums."""

    def __init__(self, models: Mapping[str, str]) -> None:
        """`models`: of each engine pool, under which the history keeps what its calls show."""
        self.progress = Progress()
        self.observations = Observations()
        self.work: dict[str, PoolWork] = {}
        #: By step, the calls that a result of another run answered.
        self.num_reused: dict[str, int] = {}
        #: From the first row's start to the last one's end, the engines started before; None until then.
        self.rows_s: float | None = None
        #: By step, its share of its pool's time where other processes make the calls.
        self.told_seconds: dict[str, float] = {}
        self.recorder = Recorder(self.progress.heard, self._observe, self._add_work)
        self._models = models

    def asked(self, step: str) -> None:
        """A step of a row asked for a call."""
        self.progress.num_asked += 1

    def reused(self, step: str, *, is_of_another_run: bool) -> None:
        """A result that was there, or that an equal call gives, is the answer to a call."""
        self.progress.num_reused += 1
        if is_of_another_run:
            self.num_reused[step] = self.num_reused.get(step, 0) + 1

    def step_seconds(self, flow: str) -> dict[str, float]:
        """Return by step its share of its pool's time."""
        return self.told_seconds | {step: totals.pool_s for step, totals in self.recorder.steps(flow).items()}

    def warnings(self) -> tuple[str, ...]:
        """Return what the reader should know of the counts, a sentence for each pool."""
        return tuple(
            f"{pool.replace(':', ' ')} did not tell the tokens of {work.num_estimated:,} answers: they are estimates"
            for pool, work in sorted(self.work.items(), key=lambda item: item[1].begin_s)
            if work.num_estimated
        )

    def _observe(self, attempt: Attempt) -> None:
        self.observations.heard(attempt, self._models.get(attempt.pool, ""))

    def _add_work(self, attempt: Attempt) -> None:
        work = self.work.get(attempt.pool)
        if work is None:
            work = self.work[attempt.pool] = PoolWork()
        work.heard(attempt)
