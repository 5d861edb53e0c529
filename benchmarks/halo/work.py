"""The make-up of a batch of calls: how much of it repeats, and the least work that answers it.

Owns the two ratios and the work bound. Counts blocks of characters, about one KV block each: engines tell no tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from halo.calls import LLMCall
from sundog.cost.profile import Profile, least_seconds
from sundog.cost.step_time import StepWork, call_work
from sundog.host.prefix_key import prefix_key


def describe_work(calls: Sequence[LLMCall]) -> dict[str, Any]:
    """The ratios over all calls of the naive batch, and for each model the work of its distinct calls, where no
    prefix is computed twice."""
    num_blocks = num_distinct_blocks = 0
    distinct: set[Any] = set()
    known: dict[str, set[int]] = defaultdict(set)
    work: dict[str, StepWork] = defaultdict(StepWork)
    for call in calls:
        key = prefix_key(call.messages)
        num_new = sum(one not in known[call.model] for one in key)
        num_blocks += len(key)
        num_distinct_blocks += num_new
        known[call.model].update(key)
        if (call.model, call.messages) not in distinct:
            distinct.add((call.model, call.messages))
            work[call.model] += _work_of(call, num_new, len(key))
    return {
        "num_calls": len(calls),
        "distinct_signature_ratio": round(len(distinct) / max(1, len(calls)), 4),
        "distinct_prefix_ratio": round(num_distinct_blocks / max(1, num_blocks), 4),
        "work": {model: asdict(one) for model, one in sorted(work.items())},
    }


def _work_of(call: LLMCall, num_new: int, num_blocks: int) -> StepWork:
    """Return the work of a call; its prompt counts with the share that lies in blocks which no earlier call had."""
    num_tokens = call.usage.num_prompt_tokens
    num_cached = int(num_tokens * (num_blocks - num_new) / num_blocks) if num_blocks else 0
    return call_work(num_tokens, min(num_cached, num_tokens - 1), call.usage.num_output_tokens, is_shared=True)


def work_bound_s(work: Mapping[str, Any], profiles: Mapping[str, Profile], num_places: int) -> float:
    """The least seconds for the work of all models, each by its profile, on `num_places`, each of which can do any of
    it: on one machine the engines share its processors, on workers they can be anywhere."""
    return sum(least_seconds(StepWork(**one), profiles[model]) for model, one in work.items()) / num_places
