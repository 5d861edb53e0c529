"""Tiers: whose class of service runs first, and what waits for whom. Pure.

The tiers are those of `sched.facts`. What would wait for ever below others has a share of the starts.
"""

from __future__ import annotations

from math import ceil, inf

from sundog.sched.facts import LOW_TIERS, TIERS
from sundog.sched.policies.admission import ADMITTED
from sundog.sched.policies.order import fair_share
from sundog.sched.policies.prediction import remaining_s
from sundog.sched.policy import Admitted, Deferred
from sundog.sched.views import ReplicaView, RequestView, SchedView

ASIDE = Deferred(until_s=inf)
_PLACES = {tier: float(place) for place, tier in enumerate(TIERS)}
PATIENCE_S = {"flex": 60.0, "batch": 3600.0}
"""Flex answers somebody who waits at an HTTP call, with ten minutes in the clients of OpenAI; a batch has a day."""
STARTS_ABOVE = 9
"""Starts of others after which one that has lost its patience goes first: it costs them a tenth at most."""

RESERVE = 0.15
"""A share of a replica's slots and KV tokens, one slot at least, that batch work leaves to what comes. Simulated
(benchmarks/live_batch.py) beside live load that swings up to 0.9 of the capacity: 0.1 makes its 95th percentile 1.10
times as long and gives the batch 90 % of what is left, 0.15 makes it 1.09 and gives 86 %, 0.2 makes it 1.07 and gives
79 %."""


def tier_first(request: RequestView, sched: SchedView) -> tuple[float, ...]:
    """Rank by tier, then by priority, then the earliest deadline, then the tenant that has had the least service for
    its weight (`fair_share`), then programs and requests as they came. Within a tier, those that cannot keep their
    deadline any more come behind all others (the slack of FlowPrefill, arXiv 2602.16603). Before everything comes one
    that `has_its_turn`.

    The later turns of a program come before newer programs, as it stands where it, or the root of its parents, arrived
    (program-level order of Continuum, arXiv 2511.02230). Loses where tiers are used without measure: the lower ones get
    a tenth of the starts. Loses as `slack_edf` does where predictions are wrong, and short programs wait for long ones.

    >>> from sundog.sched.facts import CallFacts
    >>> tiers = {"work": CallFacts(tier="batch"), "any": CallFacts(), "soon": CallFacts(tier="priority")}
    >>> requests = [RequestView(name, "gpu", arrival_time=1.0, facts=facts) for name, facts in tiers.items()]
    >>> requests += [RequestView("due", "gpu", 9.0, deadline_s=20.0), RequestView("lost", "gpu", 0.0, deadline_s=5.0)]
    >>> [one.request_id for one in sorted(requests, key=lambda one: tier_first(one, SchedView(time_s=10.0)))]
    ['soon', 'due', 'any', 'lost', 'work']
    >>> sched = SchedView(time_s=10.0, virtual_tokens={"busy": 900.0, "quiet": 20.0})
    >>> two = [RequestView(tenant, "gpu", 1.0, facts=CallFacts(tenant=tenant)) for tenant in ("busy", "quiet")]
    >>> min(two, key=lambda one: tier_first(one, sched)).request_id
    'quiet'
    """
    if has_its_turn(request, sched):
        return (-1.0, request.arrival_time)
    facts = request.facts
    deadline_s = inf if request.deadline_s is None else request.deadline_s
    is_lost = sched.time_s + remaining_s(request, sched) > deadline_s
    urgency = (1.0, facts.priority, 0.0) if is_lost else (0.0, facts.priority, deadline_s)
    return (_PLACES[facts.tier], *urgency, *fair_share(request, sched))


def has_its_turn(request: RequestView, sched: SchedView) -> bool:
    """Return whether a request of a low tier has lost its patience, and others have had nine starts in the pool since
    one of them had its own. So none waits for ever, and however many wait, they take a tenth of the starts: were they
    all promoted, a backlog would turn the tiers round.

    >>> from sundog.sched.facts import CallFacts
    >>> request = RequestView("r", "gpu", arrival_time=0.0, facts=CallFacts(tier="flex"))
    >>> [has_its_turn(request, SchedView(time_s=60.0, num_starts_above=num_starts)) for num_starts in (8, 9)]
    [False, True]
    """
    tier = request.facts.tier
    if tier not in LOW_TIERS or sched.num_starts_above < STARTS_ABOVE:
        return False
    return sched.time_s >= request.arrival_time + PATIENCE_S[tier]


def beside_live(request: RequestView, replica: ReplicaView, sched: SchedView) -> Admitted | Deferred:
    """Let a request of the tier `batch` start where nothing of another tier waits in the pool, and leave 15 % of the
    slots and of the KV tokens to what comes. One that waits holds back nobody. One that `has_its_turn` may start at any
    time.

    Where live requests came all at once they would find every slot taken by answers of minutes; so would those that
    wait find each slot that is free taken again. Loses the reserve; and the short steps of live load that never fills
    the engine: what runs beside it makes them longer (simulated: 1.35 times at a steady load of 0.3).

    >>> from sundog.sched.facts import CallFacts
    >>> request = RequestView("r", "gpu", facts=CallFacts(tier="batch"))
    >>> replicas = [ReplicaView("gpu/0", "gpu", max_concurrency=20, num_running=num) for num in (16, 17)]
    >>> [beside_live(request, replica, SchedView()) for replica in replicas]
    [Admitted(), Deferred(until=None, until_s=inf)]
    >>> beside_live(request, replicas[0], SchedView(first_waiting=RequestView("live", "gpu")))
    Deferred(until=None, until_s=inf)
    """
    if request.facts.tier != "batch" or has_its_turn(request, sched):
        return ADMITTED
    first = sched.first_waiting
    if first is not None and first.facts.tier != "batch":
        return ASIDE
    if replica.num_running == 0:
        return ADMITTED
    num_slots = replica.max_concurrency - max(1, ceil(RESERVE * replica.max_concurrency))
    limit = replica.max_tokens_in_flight
    if replica.num_running >= num_slots:
        return ASIDE
    if limit is None:
        return ADMITTED
    num_further_tokens = replica.running.num_further_tokens(
        request.prefix_key, request.num_prompt_tokens, request.max_output_tokens
    )
    return ADMITTED if replica.running.num_tokens + num_further_tokens <= (1.0 - RESERVE) * limit else ASIDE
