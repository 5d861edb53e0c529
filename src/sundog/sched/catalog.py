"""The named policy sets that sundog brings; docs/policies.md says what each is for, and when it loses. Data only.

>>> from sundog.sched.policy import POLICIES
>>> POLICIES.get("kvflow").evict_rank.__name__, POLICIES.get("fcfs").evict_rank.__name__
('farthest_use_first', 'least_recently_used')
"""

from __future__ import annotations

from dataclasses import replace

from sundog.sched.policies import order
from sundog.sched.policies.admission import (
    aggressive,
    beside_retained,
    conservative,
    one_warms_the_prefix,
    past_future,
    promised_slots_are_kept,
)
from sundog.sched.policies.programs import contexts_fit, room_beside_contexts
from sundog.sched.policies.residency import follow_plan, oldest_call_first
from sundog.sched.policies.retention import continuum_ttl, farthest_use_first, latest_program_first, while_use_is_told
from sundog.sched.policies.retry import exponential_backoff
from sundog.sched.policies.routing import (
    freest_takes_over,
    least_outstanding,
    not_where_it_failed,
    prefix_affinity,
    session_affinity,
    within_load_bound,
)
from sundog.sched.policies.speculation import smart_spec
from sundog.sched.policies.tiers import beside_live, tier_first
from sundog.sched.policies.time_slice import widest_steps
from sundog.sched.policy import PolicySet

AWAY_FROM_LOAD = ((not_where_it_failed, 4.0), (least_outstanding, 1.0))
TO_THE_PREFIX = ((not_where_it_failed, 4.0), (prefix_affinity, 1.0), (least_outstanding, 1.0))

FCFS = PolicySet(
    name="fcfs",
    rank=order.first_come,
    admit=(conservative,),
    filters=(within_load_bound,),
    scores=AWAY_FROM_LOAD,
    retry=exponential_backoff,
    residency=oldest_call_first,
)
"""Calls run as they come, and only where their whole answers have room."""

PREFIX_GROUPED = PolicySet(
    name="prefix_grouped",
    rank=order.shared_prefix_adjacent,
    admit=(conservative, promised_slots_are_kept, one_warms_the_prefix),
    filters=(within_load_bound,),
    scores=TO_THE_PREFIX,
    retry=exponential_backoff,
    residency=follow_plan,
    needs_prefixes=True,
    time_slice=widest_steps,
    draft=smart_spec,
)
"""Prompts with a common prefix run side by side, at the replica that has it, once one call has computed it."""

VLLM_DEFAULT = replace(FCFS, name="vllm_default", rank=order.priority_first, admit=())
"""This set does what vLLM does by itself."""

ROUND_ROBIN = replace(
    VLLM_DEFAULT,
    name="round_robin",
    admit=(conservative,),
    filters=(),
    scores=((not_where_it_failed, 4.0),),
    dispatches_at_once=True,
)
"""Requests go to the replicas in turn as they come, whatever waits there, as behind a plain load balancer."""
LLUMNIX = replace(ROUND_ROBIN, name="llumnix", scores=AWAY_FROM_LOAD, reschedule=freest_takes_over)
"""Requests go to the replica with the least load as they come, and move while they wait when another has less."""

_RANKED = replace(VLLM_DEFAULT, admit=(aggressive,), residency=follow_plan, draft=smart_spec, needs_workflows=True)
_REUSING = replace(_RANKED, scores=TO_THE_PREFIX, needs_prefixes=True)

PAST_FUTURE = replace(_REUSING, name="past_future", admit=(past_future,))
"""Requests are admitted by the predicted peak of KV memory."""
CONTINUUM = replace(
    _REUSING,
    name="continuum",
    admit=(aggressive, beside_retained),
    rank=order.program_first_come,
    retain=continuum_ttl,
    evict_rank=latest_program_first,
)
"""Programs run in order of arrival, and keep their KV blocks while a tool runs, as long as that pays."""
KVFLOW = replace(_REUSING, name="kvflow", retain=while_use_is_told, evict_rank=farthest_use_first)
"""KV blocks that the plan will use again are kept until it does."""

SHORTEST_REMAINING = replace(
    _RANKED, name="shortest_remaining", rank=order.shortest_remaining, reads=("num_remaining_tokens",)
)
"""The request with the fewest tokens left runs first, the rest of its workflow included."""
LEAST_ATTAINED_SERVICE = replace(_RANKED, name="least_attained_service", rank=order.least_attained_service)
"""Programs that have had the least service run first."""
CRITICAL_PATH = replace(_RANKED, name="critical_path", rank=order.critical_path, reads=("successor_path_s",))
"""The request with the longest path of steps still to come runs first."""
FAIR_SHARE = replace(_RANKED, name="fair_share", rank=order.fair_share, reads=("tenant",))
"""The tenant that has had the least service runs first."""
SLACK_EDF = replace(_RANKED, name="slack_edf", rank=order.slack_edf, reads=("deadline_s",))
"""The earliest deadline goes first among the requests that can still make it."""

LIVE = replace(
    FCFS,
    name="live",
    rank=tier_first,
    admit=(beside_live, conservative, contexts_fit),
    scores=(*TO_THE_PREFIX, (session_affinity, 1.0), (room_beside_contexts, 1.0)),
    needs_prefixes=True,
    needs_workflows=True,
    ranks_with_time=True,
    max_idle_s=3600.0,
    draft=smart_spec,
)
"""Requests as they come run by tier, deadline and the arrival of their programs, where these ran before."""
