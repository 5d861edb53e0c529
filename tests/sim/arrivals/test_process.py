"""Arrival processes: what is written, and the times."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.errors import ConfigError
from sundog.sim.arrivals.process import ArrivalProcess, read_process


def test_even_times_do_not_drift() -> None:
    times = list(islice(read_process("even:5/s").times_s(), 1001))
    assert times[:3] == [0.0, 0.2, 0.4]
    assert times[1000] == 200.0
    assert list(read_process("even:2/s:1.5s").times_s()) == [0.0, 0.5, 1.0]


def test_poisson_times_are_those_of_their_seed() -> None:
    process = read_process("poisson:5/s:2000s")
    times = list(process.times_s(7))
    assert times == list(process.times_s(7))
    assert times != list(process.times_s(8))
    assert len(times) == pytest.approx(10_000, rel=0.03)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert spread == pytest.approx(mean, rel=0.05), "gaps of a Poisson process vary as much as they last"


def test_a_ramp_ticks_faster_and_faster() -> None:
    process = read_process("ramp:0.05/s..10/s:600s")
    assert process == ArrivalProcess("ramp", 0.05, 10.0, 600.0)
    times = list(process.times_s())
    assert times[:2] == [0.0, 20.0]
    assert times[2] == pytest.approx(20 + 1 / (0.05 + 9.95 * 20 / 600))
    assert times[-1] - times[-2] == pytest.approx(0.1, rel=0.01)
    assert times[-1] < 600
    # As many as the area under the rate, but for the first long ticks.
    assert len(times) == pytest.approx(600 * 10.05 / 2, rel=0.02)


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("5/s", "neither a trace file nor an arrival process", "as in poisson:5/s"),
        ("poison:5/s", "unknown arrival process 'poison'", "did you mean 'poisson'?"),
        ("poisson:0/s", "a rate is a number from", "as in"),
        ("even:5/s..6/s", "'even' has one rate", "as in"),
        ("ramp:5/s:600s", "a ramp has two rates", "as in"),
        ("ramp:1/s..5/s", "a ramp has a duration", "as in"),
        ("even:5/s:0s", "a duration is a number of seconds above 0", "as in"),
        ("even:1e999/s", "a rate is a number from", "as in"),
    ],
)
def test_what_no_process_says(text: str, what: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        read_process(text)
    assert caught.value.where == f"--arrivals {text}"
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(hint)


@given(st.text(alphabet="poisnevramp:./0123456789esE+-", max_size=40))
def test_any_other_text_is_a_clear_error(text: str) -> None:
    with suppress(ConfigError):
        read_process(text)


@given(
    st.sampled_from(["poisson:{}/s:{}s", "even:{}/s:{}s", "ramp:{}/s..7/s:{}s"]),
    st.floats(0.01, 50),
    st.floats(0.1, 20),
    st.integers(0, 3),
)
def test_times_ascend_within_the_duration(form: str, rate: float, duration_s: float, seed: int) -> None:
    times = list(read_process(form.format(rate, duration_s)).times_s(seed))
    assert times == sorted(times)
    assert all(0 <= time_s < duration_s for time_s in times)
