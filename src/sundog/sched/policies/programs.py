"""Programs: which of them may go on at a replica, by the KV cache that they need. Pure.

Owns the rules for programs whose plan nobody knows: an agent's session at a gateway, between whose calls tools run.
Further published ones belong here.
"""

from __future__ import annotations

from math import inf, log2

from sundog.sched.books.programs.contexts import HALF_LIFE_S
from sundog.sched.policies.admission import ADMITTED
from sundog.sched.policy import Admitted, Deferred
from sundog.sched.views import ReplicaView, RequestView, SchedView

MAX_WAIT_S = 120.0
"""Nobody waits longer for others' contexts. Simulated on 128 agents with a cache for 30 % of their contexts
(benchmarks/live_agents.py): 1.26 times the least prefill, as without a bound; 1.61 times with 30 s. Clients of agents
wait for ten minutes."""
MIN_WAIT_S = 1.0
ACTIVE_S = 4 * HALF_LIFE_S
"""A program that has been away for longer begins anew: its context has a sixteenth of its weight."""


def contexts_fit(request: RequestView, replica: ReplicaView, sched: SchedView) -> Admitted | Deferred:
    """Admit a program where its context fits beside what runs and the contexts of the programs that are active there,
    also while their tools run: ThunderAgent's rule (arXiv 2602.13692), whose finding is that admitting programs matters
    more than pinning blocks. One that waits holds back nobody, and waits for two minutes at most; it is asked for again
    when contexts will weigh so little that it fits, if nothing else happens before.

    ThunderAgent looks at all programs every five seconds, and pauses the smallest ones when contexts have outgrown the
    memory. Here each turn is looked at when it comes: for an active program the contexts of those count that arrived
    before it, so that the latest ones pause, and go on as soon as there is room; for a new one all contexts count, as
    for one that was away for long or comes from another replica. A context weighs half after each half minute of a
    tool. Simulated on 128 agents of ten turns, with a cache for 30 % of their contexts and tools of 1 to 15 s: mean
    completion 1.5 times better than where turns always pass. That is as if nobody were admitted by contexts, since
    these are small at their begin.

    Loses slots while tools run, and the waits of programs that would have ended soon. A request on its own has no
    context; where the memory is not known there is nothing to fit into.

    >>> from sundog.sched.views import WorkflowView
    >>> replica = ReplicaView("gpu/0", "gpu", num_running=1, max_tokens_in_flight=1000)
    >>> replica.contexts.go_away("old", 0.0, 600, 50.0)  # a program that arrived at 0 is away since 50
    >>> began_s, here = {"old": 0.0, "young": 1.0}, {"gpu": "gpu/0"}
    >>> programs = {name: WorkflowView(name, at_s, replica_ids=here) for name, at_s in began_s.items()}
    >>> sched = SchedView(time_s=50.0, workflows=programs)
    >>> for name in ("old", "young", "new"):
    ...     request = RequestView("r", "gpu", 50.0, num_prompt_tokens=700, workflow_id=name)
    ...     print(name, contexts_fit(request, replica, sched))
    old Admitted()
    young Deferred(until=None, until_s=80.0)
    new Deferred(until=None, until_s=80.0)
    """
    limit = replica.max_tokens_in_flight
    until_s = request.arrival_time + MAX_WAIT_S
    if limit is None or replica.num_running == 0 or not request.workflow_id or sched.time_s >= until_s:
        return ADMITTED
    num_further_tokens = replica.running.num_further_tokens(
        request.prefix_key, request.num_prompt_tokens, request.max_output_tokens
    )
    num_free_tokens = limit - replica.running.num_tokens - num_further_tokens
    before_s = sched.program_arrival_s(request) if is_active(request, replica, sched) else inf
    num_context_tokens = replica.contexts.num_tokens(sched.time_s, before_s, request.workflow_id)
    if num_context_tokens <= num_free_tokens:
        return ADMITTED
    if num_free_tokens > 0:
        until_s = min(until_s, sched.time_s + max(MIN_WAIT_S, HALF_LIFE_S * log2(num_context_tokens / num_free_tokens)))
    return Deferred(until_s=until_s)


def is_active(request: RequestView, replica: ReplicaView, sched: SchedView) -> bool:
    """Return whether the last call of the request's program ran on this replica, and was not long before the request
    came.

    >>> from sundog.sched.views import WorkflowView
    >>> program = WorkflowView("p", 0.0, last_end_s=10.0, replica_ids={"gpu": "gpu/0"})
    >>> sched, replica = SchedView(workflows={"p": program}), ReplicaView("gpu/0", "gpu")
    >>> requests = [RequestView("r", "gpu", arrival_time=at_s, workflow_id="p") for at_s in (130.0, 131.0)]
    >>> [is_active(request, replica, sched) for request in requests]
    [True, False]
    """
    program = sched.workflows.get(request.workflow_id)
    if program is None or program.replica_ids.get(request.pool) != replica.replica_id:
        return False
    return program.last_end_s is None or request.arrival_time <= program.last_end_s + ACTIVE_S


def room_beside_contexts(request: RequestView, replica: ReplicaView, sched: SchedView) -> float:
    """Prefer the replica with most of its KV tokens free of what runs, what waits, and the contexts of programs between
    two calls; none where the memory is not known.

    So new programs spread by what they will hold, where `least_outstanding` sees what runs. Loses nothing known: it
    weighs less than a session.

    >>> replicas = [ReplicaView(name, "gpu", max_tokens_in_flight=1000) for name in ("gpu/0", "gpu/1")]
    >>> replicas[0].contexts.go_away("program", 0.0, 600, 50.0)
    >>> [room_beside_contexts(RequestView("r", "gpu"), replica, SchedView(time_s=50.0)) for replica in replicas]
    [0.4, 1.0]
    """
    limit = replica.max_tokens_in_flight
    if limit is None:
        return 0.0
    num_tokens = replica.running.num_tokens + replica.num_queued_tokens + replica.contexts.num_tokens(sched.time_s)
    return max(0.0, 1.0 - num_tokens / limit)
