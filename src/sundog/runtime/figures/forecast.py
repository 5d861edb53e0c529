"""The forecast of a run, from its counters as they grow: how far it is and how long it still takes.

Owns this arithmetic. Knows no clock: time is the progress's own. Never prints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sundog.runtime.figures.progress import Progress

SMOOTHING_S = 2.0
SMOOTHING_SHARE = 0.1
"""The end that is shown follows the one computed last over so many seconds, or this share of the time so far."""
MIN_CALLS = 2


@dataclass(frozen=True, slots=True)
class Forecast:
    """The forecast of a run; each is None while nothing is known of it."""

    #: Executed calls of the whole run, those of earlier processes included, when it is over.
    num_calls: float | None = None
    #: The share of the work that is done, in [0, 1].
    share: float | None = None
    #: Seconds until the end.
    remaining_s: float | None = None


class Forecaster:
    """Forecasts of one process's part in one run; `at` is called with ever later progress.

    `num_planned`: executed calls of the whole run by the plan's estimate, None while there is none. It counts as long
    as few rows have ended; then the rows that have ended tell how many calls are left.
    """

    def __init__(self, num_planned: float | None = None) -> None:
        self.num_planned = num_planned
        self._share = 0.0
        self._num_seen = 0
        self._seen_s = 0.0
        self._first_s: float | None = None
        self._longest_gap_s = 0.0
        self._end_s: float | None = None
        self._end_at_s = 0.0

    def at(self, progress: Progress) -> Forecast:
        """Return the forecast for now."""
        self.look(progress)
        left = self._calls_left(progress)
        num_before = progress.num_restored_executed + progress.num_executed
        num_calls = None if left is None else num_before + left
        share = self._rows_share(progress) if not num_calls else num_before / num_calls
        if share is not None:
            # A correction upwards must not take back what was shown.
            share = self._share = max(self._share, share)
        return Forecast(num_calls, share, self._remaining_s(progress, left))

    def look(self, progress: Progress) -> None:
        """Note when calls were seen to end; between forecasts, so that their times are known better."""
        if progress.num_executed > self._num_seen:
            if self._first_s is None:
                self._first_s = progress.elapsed_s
            self._longest_gap_s = max(self._longest_gap_s, progress.elapsed_s - self._seen_s)
            self._num_seen, self._seen_s = progress.num_executed, progress.elapsed_s

    def _calls_left(self, progress: Progress) -> float | None:
        by_plan, by_rows = self._left_by_plan(progress), _left_by_rows(progress)
        if by_plan is None or by_rows is None:
            return by_rows if by_plan is None else by_plan
        num_to_run = (progress.num_rows or 0) - progress.num_restored
        rows_share = (progress.num_ended - progress.num_restored) / num_to_run
        # Half of the rows tells more than any estimate; the first to end are often short ones, dropped by a filter.
        weight = max(min(1.0, 2 * rows_share), progress.num_executed / max(1.0, progress.num_executed + by_plan))
        return by_plan * (1 - weight) + by_rows * weight

    def _left_by_plan(self, progress: Progress) -> float | None:
        if self.num_planned is None:
            return None
        return max(0.0, self.num_planned - progress.num_restored_executed - progress.num_executed)

    def _rows_share(self, progress: Progress) -> float | None:
        return progress.num_ended / progress.num_rows if progress.num_rows else None

    def _remaining_s(self, progress: Progress, left: float | None) -> float | None:
        now_s = progress.elapsed_s
        raw_s = self._by_calls_s(progress, left) if progress.num_executed else _by_rows_s(progress)
        if raw_s is None:
            return None
        end_s = now_s + raw_s
        if self._end_s is not None:
            span_s = max(SMOOTHING_S, SMOOTHING_SHARE * now_s)
            end_s = self._end_s + (1 - math.exp((self._end_at_s - now_s) / span_s)) * (end_s - self._end_s)
        self._end_s, self._end_at_s = end_s, now_s
        return min(max(end_s - now_s, raw_s / 2), raw_s * 2)

    def _by_calls_s(self, progress: Progress, left: float | None) -> float | None:
        """Return the seconds left at the mean rate of the calls so far; None while fewer have ended than tell it."""
        now_s, first_s = progress.elapsed_s, self._first_s
        if left is None or first_s is None or progress.num_executed < MIN_CALLS or now_s < 1.5 * first_s or not now_s:
            return None
        # Calls that began together end together: between two such waves the rate is that of the last one.
        counted_s = max(self._seen_s, now_s - self._longest_gap_s)
        return max(0.0, left * counted_s / progress.num_executed - (now_s - counted_s))


def _left_by_rows(progress: Progress) -> float | None:
    """Return the calls left by those that the ended rows asked for, and how many of the calls so far were executed."""
    num_ended = progress.num_ended - progress.num_restored
    if progress.num_rows is None or num_ended <= 0:
        return None
    if progress.num_ended >= progress.num_rows:
        return 0.0
    num_asked = progress.num_asked_by_ended * (progress.num_rows - progress.num_restored) / num_ended
    num_asked = max(num_asked, progress.num_asked)
    num_answered = progress.num_executed + progress.num_reused
    return max(0.0, num_asked - num_answered) * progress.num_executed / max(1, num_answered)


def _by_rows_s(progress: Progress) -> float | None:
    """Return the seconds left at the mean rate of rows, for a run that finds all it asks for."""
    num_ended = progress.num_ended - progress.num_restored
    if progress.num_rows is None or num_ended <= 0 or not progress.elapsed_s:
        return None
    return (progress.num_rows - progress.num_ended) * progress.elapsed_s / num_ended
