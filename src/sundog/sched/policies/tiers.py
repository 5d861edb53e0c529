"""Tiers: whose class of service runs first, and what waits for whom. Pure.

The tiers are those of `sched.facts`. What would wait for ever below others has a share of the starts.
"""

from __future__ import annotations

from sundog.sched.facts import LOW_TIERS, TIERS
from sundog.sched.policies.order import program_arrival
from sundog.sched.policies.prediction import remaining_s
from sundog.sched.views import RequestView, SchedView

_PLACES = {tier: float(place) for place, tier in enumerate(TIERS)}
PATIENCE_S = {"flex": 60.0, "batch": 3600.0}
"""Flex answers somebody who waits at an HTTP call, with ten minutes in the clients of OpenAI; a batch has a day."""
STARTS_ABOVE = 9
"""Starts of others after which one that has lost its patience goes first: it costs them a tenth at most."""


def tier_first(request: RequestView, sched: SchedView) -> tuple[float, ...]:
    """Rank by tier, then by priority, then the earliest deadline, then programs and requests as they came. Within a
    tier, those that cannot keep their deadline any more come behind all others (the slack of FlowPrefill, arXiv
    2602.16603). Before everything comes one that `has_its_turn`.

    The later turns of a program come before newer programs, as it stands where it, or the root of its parents, arrived
    (program-level order of Continuum, arXiv 2511.02230). Loses where tiers are used without measure: the lower ones get
    a tenth of the starts. Loses as `slack_edf` does where predictions are wrong, and short programs wait for long ones.

    >>> from sundog.sched.facts import CallFacts
    >>> tiers = {"work": CallFacts(tier="batch"), "any": CallFacts(), "soon": CallFacts(tier="priority")}
    >>> requests = [RequestView(name, "gpu", arrival_time=1.0, facts=facts) for name, facts in tiers.items()]
    >>> requests += [RequestView("due", "gpu", 9.0, deadline_s=20.0), RequestView("lost", "gpu", 0.0, deadline_s=5.0)]
    >>> [one.request_id for one in sorted(requests, key=lambda one: tier_first(one, SchedView(time_s=10.0)))]
    ['soon', 'due', 'any', 'lost', 'work']
    """
    if has_its_turn(request, sched):
        return (-1.0, request.arrival_time)
    facts = request.facts
    deadline_s = float("inf") if request.deadline_s is None else request.deadline_s
    is_lost = sched.time_s + remaining_s(request, sched) > deadline_s
    urgency = (1.0, facts.priority, 0.0) if is_lost else (0.0, facts.priority, deadline_s)
    return (_PLACES[facts.tier], *urgency, *program_arrival(request, sched))


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
