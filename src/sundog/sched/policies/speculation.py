"""Speculation: how many draft tokens a step verifies for each request. Pure."""

from __future__ import annotations

from sundog.sched.views import EngineStepView, SchedView


def full_length(step: EngineStepView, sched: SchedView) -> int:
    """Return what vLLM is configured to verify, whatever is accepted.

    Loses where many requests decode together: each rejected token takes time from all of them.

    >>> full_length(EngineStepView(num_requests=64, max_draft_tokens=5, step_s=lambda num_drafts: 1.0), SchedView())
    5
    """
    return step.max_draft_tokens


def smart_spec(step: EngineStepView, sched: SchedView) -> int:
    """Verify as SmartSpec does (arXiv 2406.14066): the length with most tokens expected for a second of the step; the
    shortest of equals. At full length while no acceptance is measured, to measure it.

    Loses where acceptance differs much between requests, as one length is for all. At length 0 nothing is measured any
    more: a host that wants to try again forgets the rate after a while.

    >>> wide = EngineStepView(num_requests=64, max_draft_tokens=5, step_s=lambda num_drafts: 0.02 + 0.01 * num_drafts)
    >>> smart_spec(wide, SchedView())  # no acceptance is measured
    5
    >>> wide.acceptance_rate = 0.7
    >>> smart_spec(wide, SchedView())
    1
    """
    rate = step.acceptance_rate
    if rate is None:
        return step.max_draft_tokens

    def tokens_per_s(num_drafts: int) -> float:
        return expected_tokens(rate, num_drafts) / step.step_s(num_drafts)

    return max(range(step.max_draft_tokens + 1), key=tokens_per_s)


def expected_tokens(acceptance_rate: float, num_drafts: int) -> float:
    """Return the number of tokens that a request gains by a step: the drafts up to the first that is rejected, and the
    one that the step computes in any case."""
    return sum(acceptance_rate**number for number in range(num_drafts + 1))
