"""The named policy sets that sundog brings. Data only."""

from __future__ import annotations

from sundog.sched.admission import one_warms_the_prefix, promised_slots_are_kept, within_token_budget
from sundog.sched.order import first_come, shared_prefix_adjacent
from sundog.sched.policy import PolicySet
from sundog.sched.residency import follow_plan, oldest_call_first
from sundog.sched.retry import exponential_backoff
from sundog.sched.routing import least_outstanding, not_where_it_failed, prefix_affinity, within_load_bound

FCFS = PolicySet(
    name="fcfs",
    rank=first_come,
    admit=(within_token_budget,),
    filters=(within_load_bound,),
    scores=((not_where_it_failed, 4.0), (least_outstanding, 1.0)),
    retry=exponential_backoff,
    residency=oldest_call_first,
)

PREFIX_GROUPED = PolicySet(
    name="prefix_grouped",
    rank=shared_prefix_adjacent,
    admit=(within_token_budget, promised_slots_are_kept, one_warms_the_prefix),
    filters=(within_load_bound,),
    scores=((not_where_it_failed, 4.0), (prefix_affinity, 1.0), (least_outstanding, 1.0)),
    retry=exponential_backoff,
    residency=follow_plan,
    needs_prefixes=True,
)
