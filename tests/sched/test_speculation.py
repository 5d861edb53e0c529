"""Draft length by acceptance and step time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sundog.sched.policies.speculation import expected_tokens, full_length, smart_spec
from sundog.sched.views import EngineStepView, SchedView

MAX_DRAFTS = 5


def memory_bound(num_drafts: int) -> float:
    """Few requests: drafts are nearly free."""
    return 1.0 + 0.01 * num_drafts


def compute_bound(num_drafts: int) -> float:
    """Many requests: each draft costs as much as a token of its own."""
    return 1.0 + num_drafts


def drafted_first(num_drafts: int) -> float:
    """A draft model takes most of a step before anything is verified."""
    return 1.0 + (0.8 + 0.2 * num_drafts if num_drafts else 0.0)


@pytest.mark.parametrize(
    ("why", "rate", "step_s", "expected"),
    [
        ("nothing measured: at full length", None, compute_bound, 5),
        ("nothing is accepted", 0.0, memory_bound, 0),
        ("everything is accepted and costs nothing", 1.0, memory_bound, 5),
        ("everything is accepted and costs the same: no gain", 1.0, compute_bound, 0),
        ("half is accepted: 1.5 for 1.01, 1.75 for 1.02, … 1.96875 for 1.05", 0.5, memory_bound, 5),
        ("a tenth: 1.1 for 1.01, 1.11 for 1.02, 1.111 for 1.03", 0.1, memory_bound, 1),
        ("a fixed cost is worth it for all or none", 0.9, drafted_first, 5),
        ("and for none where little is accepted", 0.3, drafted_first, 0),
    ],
)
def test_smart_spec(why: str, rate: float | None, step_s: Callable[[int], float], expected: int) -> None:
    step = EngineStepView(num_requests=4, max_draft_tokens=MAX_DRAFTS, step_s=step_s, acceptance_rate=rate)
    assert smart_spec(step, SchedView()) == expected, why
    assert full_length(step, SchedView()) == MAX_DRAFTS


@pytest.mark.parametrize(
    ("rate", "num_drafts", "expected"), [(0.0, 5, 1.0), (1.0, 5, 6.0), (0.5, 2, 1.75), (0.5, 0, 1)]
)
def test_expected_tokens(rate: float, num_drafts: int, expected: float) -> None:
    assert expected_tokens(rate, num_drafts) == expected
