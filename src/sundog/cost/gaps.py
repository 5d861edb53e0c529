"""Text of prompts that no step's own history can tell: what tools give, elements of lists to come, values of loops.

Owns how long it is taken to be: what the prompts of earlier runs had beyond the text that is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sundog.cost.estimate import NOTHING, Estimate
from sundog.cost.history import NodeRecord, mean_of
from sundog.cost.plan_sample import PlannedCall


def fill_gaps(calls: Sequence[PlannedCall], record: NodeRecord | None) -> list[PlannedCall]:
    """Return `calls` of one step, with the tokens of their gaps in place."""
    gap_tokens = _gap_tokens(calls, record)
    return [_filled(call, gap_tokens) if call.sampled.num_gaps else call for call in calls]


def _gap_tokens(calls: Sequence[PlannedCall], record: NodeRecord | None) -> Estimate | None:
    """Return the estimate of one gap; None where no earlier run tells."""
    num_calls = sum(call.chance.expected for call in calls)
    num_gaps = sum(call.chance.expected * call.sampled.num_gaps for call in calls)
    mean = None if record is None else mean_of(record.prompt_tokens, num_calls)
    if mean is None or not num_gaps:
        return None
    num_known = sum(call.chance.expected * call.sampled.num_prompt_tokens.expected for call in calls)
    return Estimate(
        *(max(0.0, (end * num_calls - num_known) / num_gaps) for end in (mean.low, mean.expected, mean.high))
    )


def _filled(call: PlannedCall, gap_tokens: Estimate | None) -> PlannedCall:
    sampled = call.sampled
    added = sampled.guessed_tokens if gap_tokens is None else gap_tokens * sampled.num_gaps
    num_tokens = sampled.num_prompt_tokens + added
    return replace(call, sampled=replace(sampled, num_prompt_tokens=num_tokens, num_gaps=0, guessed_tokens=NOTHING))
