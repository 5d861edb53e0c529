"""Speculation: how many draft tokens a step verifies for each request. Pure."""

from __future__ import annotations

from sundog.sched.views import SchedView, StepView


def full_length(step: StepView, sched: SchedView) -> int:
    """As vLLM is configured, whatever is accepted.

    Loses where many requests decode together: each rejected token takes time from all of them.
    """
    return step.max_draft_tokens
