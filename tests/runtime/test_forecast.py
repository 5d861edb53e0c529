"""Forecasts of simulated runs: slots, rows in flight, steps of different lengths, and a clock that is counted."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from sundog.runtime.figures.forecast import Forecast, Forecaster
from sundog.runtime.figures.progress import Progress

TICK_S = 0.5


def simulated(
    num_rows: int, steps_s: tuple[float, ...], num_slots: int, *, spread: float = 0.2, seed: int = 1
) -> Iterator[Progress]:
    """Progress at each tick of a run whose rows are all in flight: each row makes a call per step, `num_slots` at once,
    of about `steps_s` seconds."""
    chance = random.Random(seed)
    progress = Progress(num_rows=num_rows, num_asked=num_rows)
    waiting = [(0, row) for row in range(num_rows)]
    running: list[tuple[float, int, int]] = []
    now_s = tick_s = 0.0
    while waiting or running:
        while waiting and len(running) < num_slots:
            step, row = waiting.pop(0)
            heapq.heappush(running, (now_s + steps_s[step] * (1 + spread * chance.uniform(-1, 1)), step, row))
        now_s, step, row = heapq.heappop(running)
        while tick_s + TICK_S < now_s:
            tick_s += TICK_S
            progress.elapsed_s = tick_s
            yield progress
        progress.num_executed += 1
        if step + 1 < len(steps_s):
            progress.num_asked += 1
            waiting.append((step + 1, row))
        else:
            progress.num_done += 1
            progress.num_asked_by_ended += len(steps_s)
    progress.elapsed_s = now_s
    yield progress


def forecasts(run: Iterator[Progress], num_planned: float | None) -> list[tuple[float, Forecast]]:
    forecaster = Forecaster(num_planned)
    return [(progress.elapsed_s, forecaster.at(progress)) for progress in run]


RUNS = {
    "waves": (200, (2.0,), 16, 200.0),
    "one wave after another": (64, (5.0,), 16, 64.0),
    "three steps": (300, (0.5, 1.0, 0.5), 32, 900.0),
    "long rows": (500, (1.0, 2.0, 1.0), 8, 1500.0),
    "a plan twice too high": (300, (1.0, 1.0), 32, 1200.0),
    "a plan half too low": (300, (1.0, 1.0), 32, 300.0),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_time_left_is_near_the_truth_and_does_not_jump(name: str) -> None:
    num_rows, steps_s, num_slots, num_planned = RUNS[name]
    found = forecasts(simulated(num_rows, steps_s, num_slots), num_planned)
    end_s = found[-1][0]
    told = [(now_s, forecast.remaining_s) for now_s, forecast in found if forecast.remaining_s is not None]
    assert len(told) > 0.7 * len(found), "it is known early"
    # A wrong plan is corrected by rows that have ended, here when most of the time is over.
    is_right = num_planned == num_rows * len(steps_s)
    for now_s, told_s in told:
        if is_right or now_s > 0.8 * end_s:
            truth_s = end_s - now_s
            assert truth_s / 2.5 - 3 < told_s < 2.5 * truth_s + 3
    for (_, before_s), (_, after_s) in pairwise(told):
        assert after_s < (3 if is_right else 5) * before_s + 2


@pytest.mark.parametrize("name", RUNS)
def test_the_bar_only_grows_and_ends_whole(name: str) -> None:
    num_rows, steps_s, num_slots, num_planned = RUNS[name]
    shares = [forecast.share or 0.0 for _, forecast in forecasts(simulated(num_rows, steps_s, num_slots), num_planned)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize("num_planned", [100.0, 600.0, 5000.0, None])
def test_ended_rows_correct_the_number_of_calls(num_planned: float | None) -> None:
    found = forecasts(simulated(300, (1.0, 1.0), 32), num_planned)
    assert found[-1][1].num_calls == 600
    assert found[0][1].num_calls == num_planned


def test_nothing_is_told_while_nothing_is_known() -> None:
    assert Forecaster().at(Progress()) == Forecast(None, None, None)
    assert Forecaster().at(Progress(num_rows=10)) == Forecast(None, 0.0, None)
    assert Forecaster(40).at(Progress(num_rows=10, num_asked=10, elapsed_s=3.0)) == Forecast(40, 0.0, None)


def test_a_continued_run_goes_on_where_it_stood() -> None:
    """Rows and calls of the earlier process are done, and do not speed up the rate."""
    progress = Progress(
        num_rows=100, num_restored=50, num_done=60, num_restored_executed=200, num_asked=40, num_executed=40
    )
    progress.num_asked_by_ended, progress.elapsed_s = 40, 10.0
    forecaster = Forecaster(400.0)
    start = Progress(num_rows=100, num_restored=50, num_done=50, num_restored_executed=200)
    assert forecaster.at(start) == Forecast(400.0, 0.5, None)
    progress.elapsed_s = 5.0
    forecaster.at(progress)
    progress.elapsed_s = 10.0
    forecast = forecaster.at(progress)
    assert forecast.num_calls == 400.0
    assert forecast.share == pytest.approx(0.6)


def test_a_run_that_finds_all_it_asks_for_counts_rows() -> None:
    progress = Progress(num_rows=100, num_done=25, num_asked=50, num_reused=50, num_asked_by_ended=50, elapsed_s=5.0)
    forecast = Forecaster(200.0).at(progress)
    assert forecast.remaining_s == 15.0


def test_calls_that_failed_are_not_waited_for() -> None:
    progress = Progress(num_rows=2, num_done=1, num_failed=1, num_asked=4, num_executed=3, num_asked_by_ended=3)
    assert Forecaster(4.0).at(progress).num_calls == 3
