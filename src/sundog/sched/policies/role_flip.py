"""Role flip: when a replica that computes prompts becomes one that decodes, or the other way round. Pure.

Source: the SLO-aware policy of xLLM's service (xllm-service, `loadbalance_policy/slo_aware_policy.cpp`; the design is
in arXiv 2510.14686): where every replica of one phase has a high load and one of the other a low one, that one changes.
There the load is times to the first token and between tokens against their targets. A batch has no such targets, so
here it is what waits for each phase.
"""

from __future__ import annotations

from sundog.sched.fleets import DecodeView, Flip, PrefillView

HIGH_STEPS = 2.0
"""So many full steps of prompts at every replica are a high load, and fewer than one is a low one."""


def by_load(prefill: PrefillView, decode: DecodeView) -> Flip | None:
    """Flip a replica to the phase for which requests wait, where the others of its own phase have room for all of it.

    Loses where loads change faster than a replica gives up what it runs.

    >>> by_load(PrefillView(num_replicas=2, num_full_steps=0.5), DecodeView(num_replicas=2, num_waiting=3, usage=1.0))
    'to_decode'
    >>> by_load(PrefillView(num_replicas=2, num_full_steps=9.0), DecodeView(num_replicas=2, num_waiting=0, usage=0.4))
    'to_prefill'
    """
    if decode.num_waiting and prefill.num_replicas > 1 and prefill.num_full_steps < 1.0:
        return "to_decode"
    has_room = decode.num_replicas > 1 and decode.usage <= 1.0 - 1.0 / decode.num_replicas
    if not decode.num_waiting and has_room and prefill.num_full_steps >= HIGH_STEPS:
        return "to_prefill"
    return None
