"""The harness itself: an example that hangs is found, and the option decides how many there are."""

from __future__ import annotations

import pytest

from tests.fuzz import budget
from tests.fuzz.budget import DEFAULT_EXAMPLES, Hang, bounded, fuzz, set_examples


def test_an_example_that_hangs_is_stopped_and_no_guard_catches_it() -> None:
    with pytest.raises(Hang), bounded(cpu_s=0.02):
        _hang_behind_a_guard()


def _hang_behind_a_guard() -> None:
    while True:
        try:
            sum(range(1000))
        except Exception:
            return


def test_the_option_decides_how_many_examples_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_num_examples", DEFAULT_EXAMPLES)
    assert fuzz().max_examples == DEFAULT_EXAMPLES
    assert fuzz().derandomize
    set_examples(10_000)
    assert fuzz(0.5).max_examples == 5_000
    assert not fuzz().derandomize
