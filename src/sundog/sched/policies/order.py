"""Ranks: which waiting request runs first, and by the same order which running one is preempted last. Pure.

Whatever else counts, programs (workflows) and then requests stand in order of arrival among equals, so that every rank
is a total order of those that come one after another. A request without a workflow is a program of its own.
"""

from __future__ import annotations

from sundog.sched.policies.prediction import MEDIAN, remaining_output_tokens, remaining_s
from sundog.sched.views import RequestView, SchedView

SERVICE_QUANTUM_TOKENS = 400


def first_come(request: RequestView, sched: SchedView) -> tuple[float, ...]:
    """Rank in order of arrival. Loses when many prompts share prefixes: neighbours in time are no neighbours in
    text.

    >>> requests = [RequestView("late", "gpu", arrival_time=2.0), RequestView("early", "gpu", arrival_time=1.0)]
    >>> [one.request_id for one in sorted(requests, key=lambda one: first_come(one, SchedView()))]
    ['early', 'late']
    """
    return (request.arrival_time,)


def priority_first(request: RequestView, sched: SchedView) -> tuple[float, ...]:
    """Rank as vLLM's scheduler: by the priority that came with the request, then in order of arrival.

    Loses as `first_come` does; and a program of many short calls queues anew for each of them.

    >>> from sundog.sched.facts import CallFacts
    >>> urgent = RequestView("urgent", "gpu", arrival_time=2.0, facts=CallFacts(priority=-1))
    >>> requests = [RequestView("early", "gpu", arrival_time=1.0), urgent]
    >>> [one.request_id for one in sorted(requests, key=lambda one: priority_first(one, SchedView()))]
    ['urgent', 'early']
    """
    return (request.facts.priority, request.arrival_time)


def shared_prefix_adjacent(request: RequestView, sched: SchedView) -> tuple[float, ...]:
    """Rank prompts with a common prefix side by side, so that its KV blocks are warm and few are needed at once.

    Where the plan's engines take turns, an engine's calls run in the plan's order of their steps, as Halo's processor
    takes them (arXiv 2509.02121, section 5): rows that overtook it would hold back the workers that wait for the first
    steps. All else ranks the calls of one step, or of all where rows flow through engines that stay.

    What has at least half its prompt from its row's last call comes first: else it would be evicted. Then the leaves of
    a radix tree met depth first, in the order in which its branches first came, a child right after the prompt that it
    extends (Helium, arXiv 2603.16104, section 5; BatchLLM, arXiv 2412.03594, section 4); no new group overtakes an old
    one. Rows in order within a group; among tools, which have no prompt, what the plan needs soonest first. Where all
    engines share one device and the cache has room for everything, the rows with most steps to come go first instead:
    the batch ends with fuller steps. Engines side by side would wait for the rows that this holds back.

    >>> orders = {"a1": (0, 1), "b": (2,), "a2": (0, 3)}  # the blocks of each prompt, numbered as they first came
    >>> requests = [RequestView(name, "gpu", prefix_order=order) for name, order in orders.items()]
    >>> [one.request_id for one in sorted(requests, key=lambda one: shared_prefix_adjacent(one, SchedView()))]
    ['a1', 'a2', 'b']
    """
    extends_last_call = 0 < len(request.prefix_key) <= 2 * request.num_inherited_blocks
    first = request.depth if sched.is_roomy and sched.num_devices == 1 else -extends_last_call
    place = sched.step_places.get(request.node, 0)
    return (place, first, *request.prefix_order, -1.0, request.need_s, request.workflow_order, request.depth)


def program_first_come(request: RequestView, sched: SchedView) -> tuple[float, ...]:
    """Rank as Continuum does (arXiv 2511.02230): preempted requests first, then those that came back while the KV
    blocks of their program were retained, then programs in order of arrival.

    Loses against short programs behind long ones: it is first come, first served, a program at a time.

    >>> from sundog.sched.views import WorkflowView
    >>> began_s = {"new": 5.0, "old": 0.0}
    >>> sched = SchedView(workflows={name: WorkflowView(name, arrival_s=at_s) for name, at_s in began_s.items()})
    >>> requests = [RequestView(name, "gpu", arrival_time=9.0, workflow_id=name) for name in began_s]
    >>> [one.request_id for one in sorted(requests, key=lambda one: program_first_come(one, sched))]
    ['old', 'new']
    """
    workflow = sched.workflows.get(request.workflow_id)
    is_retained = workflow is not None and request.arrival_time < workflow.retained_until_s
    return (-float(request.num_preemptions > 0), -float(is_retained), *program_arrival(request, sched))


def shortest_remaining(request: RequestView, sched: SchedView) -> tuple[float, ...]:
    """Rank by the fewest tokens left, of the request (by the median of its step) and of its workflow's calls to come:
    least mean completion time on one server (Schrage 1968; for LLM calls JITServe, NSDI 2026, has it as a baseline).

    Loses fairness: a long one waits as long as shorter ones come. Loses against `critical_path` on the makespan, and
    where the lengths told are wrong.

    >>> requests = [RequestView(str(num), "gpu", num_prompt_tokens=num) for num in (900, 300, 600)]
    >>> [one.request_id for one in sorted(requests, key=lambda one: shortest_remaining(one, SchedView()))]
    ['300', '600', '900']
    """
    workflow = sched.workflows.get(request.workflow_id)
    num_tokens = request.num_prefill_tokens + remaining_output_tokens(request, sched, MEDIAN)
    num_later_tokens = 0.0 if workflow is None else workflow.num_remaining_tokens
    return (num_tokens + num_later_tokens, *program_arrival(request, sched))


def least_attained_service(request: RequestView, sched: SchedView) -> tuple[float, ...]:
    """Rank programs first that have had least so far, in quanta of 400 tokens: short ones end soon though nobody knows
    lengths (Autellix, arXiv 2502.13965).

    Loses against `shortest_remaining` where lengths are known; with programs of equal length it serves them in turns,
    so that all end late and their KV blocks are evicted between two calls.

    >>> from sundog.sched.views import WorkflowView
    >>> served = {"much": 4000, "little": 400}
    >>> views = {name: WorkflowView(name, arrival_s=0.0, num_attained_tokens=num) for name, num in served.items()}
    >>> sched = SchedView(workflows=views)
    >>> requests = [RequestView(name, "gpu", workflow_id=name) for name in served]
    >>> [one.request_id for one in sorted(requests, key=lambda one: least_attained_service(one, sched))]
    ['little', 'much']
    """
    workflow = sched.workflows.get(request.workflow_id)
    num_own_tokens = request.num_computed_tokens + request.num_output_tokens
    num_tokens = num_own_tokens if workflow is None else workflow.num_attained_tokens
    return (num_tokens // SERVICE_QUANTUM_TOKENS, *program_arrival(request, sched))


def critical_path(request: RequestView, sched: SchedView) -> tuple[float, ...]:
    """Rank the longest path of steps to come first: list scheduling by upward rank, for the makespan of a batch
    (Topcuoglu, Hariri, Wu, IEEE TPDS 2002). Among equals, what the plan needs soonest comes first.

    Loses on mean completion time, as short workflows wait for long ones, and on the cache: it scatters rows that share
    a prefix.

    >>> from sundog.sched.facts import CallFacts
    >>> paths_s = {"last": 0.0, "first": 30.0, "second": 12.0}
    >>> requests = [RequestView(name, "gpu", facts=CallFacts(successor_path_s=at_s)) for name, at_s in paths_s.items()]
    >>> [one.request_id for one in sorted(requests, key=lambda one: critical_path(one, SchedView()))]
    ['first', 'second', 'last']
    """
    return (-remaining_s(request, sched), request.need_s, *program_arrival(request, sched))


def fair_share(request: RequestView, sched: SchedView) -> tuple[float, ...]:
    """Rank the tenant with least service first, then its programs in order of arrival: virtual token counters (VTC,
    Sheng et al., OSDI 2024) in the two levels of UWFQ (arXiv 2510.15485). `sched.books.fairness` says what counts as
    service.

    Loses throughput where tenants share prefixes among their own requests only: their turns evict each other's blocks.

    >>> from sundog.sched.facts import CallFacts
    >>> sched = SchedView(virtual_tokens={"busy": 9000.0, "quiet": 100.0})
    >>> requests = [RequestView(tenant, "gpu", facts=CallFacts(tenant=tenant)) for tenant in ("busy", "quiet")]
    >>> [one.request_id for one in sorted(requests, key=lambda one: fair_share(one, sched))]
    ['quiet', 'busy']
    """
    return (sched.virtual_tokens.get(request.facts.tenant, 0.0), *program_arrival(request, sched))


def slack_edf(request: RequestView, sched: SchedView) -> tuple[float, ...]:
    """Rank the earliest deadline first among the requests that can still make it; those that cannot come last, in order
    of arrival (FlowPrefill, arXiv 2602.16603). Requests without a deadline stand between the two.

    Loses where the prediction does: too slow an estimate gives up a request that could have made it. Rests on measured
    speeds; without them only a deadline that has passed counts as lost.

    >>> due_s = {"lost": 5.0, "later": 60.0, "soon": 20.0, "any time": None}
    >>> requests = [RequestView(name, "gpu", deadline_s=at_s) for name, at_s in due_s.items()]
    >>> [one.request_id for one in sorted(requests, key=lambda one: slack_edf(one, SchedView(time_s=10.0)))]
    ['soon', 'later', 'any time', 'lost']
    """
    deadline_s = float("inf") if request.deadline_s is None else request.deadline_s
    if sched.time_s + remaining_s(request, sched) > deadline_s:
        return (1.0, 0.0, *program_arrival(request, sched))
    return (0.0, deadline_s, *program_arrival(request, sched))


def program_arrival(request: RequestView, sched: SchedView) -> tuple[float, float]:
    """Return when its program arrived, or the one at the root of its program's parents; and when it did.

    >>> from sundog.sched.facts import CallFacts
    >>> from sundog.sched.views import WorkflowView
    >>> sched = SchedView(workflows={"root": WorkflowView("root", 1.0), "child": WorkflowView("child", 7.0)})
    >>> facts = CallFacts(root_program="root")
    >>> program_arrival(RequestView("r", "gpu", arrival_time=9.0, workflow_id="child", facts=facts), sched)
    (1.0, 9.0)
    """
    return (sched.program_arrival_s(request), request.arrival_time)
