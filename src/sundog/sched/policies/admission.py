"""Admission: may this request start on this replica now. Pure.

The concurrency limit is the core's own rule (no policy lifts it); these add to it. A prefix that several requests share
counts once, as it is held once. An idle replica takes anything, or nothing would move.
"""

from __future__ import annotations

from collections.abc import Iterable

from sundog.sched.policies.prediction import draw, remaining_output_tokens
from sundog.sched.policy import Admitted, Deferred
from sundog.sched.views import ReplicaView, RequestView, SchedView

ADMITTED = Admitted()
NO_ROOM = Deferred()
CACHED_PROMPTS_PER_SLOT = 4
RESERVED_SHARE = 0.05
MAX_DRAWS = 2
DRAWN_REQUESTS = 200


def conservative(request: RequestView, replica: ReplicaView, sched: SchedView) -> Admitted | Deferred:
    """Admit where there is room for every answer at its full length: nothing is ever preempted for want of memory.

    Loses where answers end early: half the memory stays empty when they are half as long as they may be.

    >>> replica = ReplicaView("gpu/0", "gpu", num_running=1, max_tokens_in_flight=1000)
    >>> replica.running.hold("other", (), 500, 300)  # a prompt of 500 tokens, an answer of at most 300
    >>> for num_tokens in (50, 51):
    ...     request = RequestView("r", "gpu", num_prompt_tokens=150, num_expected_output_tokens=num_tokens)
    ...     print(conservative(request, replica, SchedView()))
    Admitted()
    Deferred(until=None, until_s=None)
    """
    limit = replica.max_tokens_in_flight
    if limit is None or replica.num_running == 0:
        return ADMITTED
    num_further = replica.running.num_further_tokens(
        request.prefix_key, request.num_prompt_tokens, request.max_output_tokens
    )
    return ADMITTED if replica.running.num_tokens + num_further <= limit else NO_ROOM


def aggressive(request: RequestView, replica: ReplicaView, sched: SchedView) -> Admitted | Deferred:
    """Admit where there is room for the prompt now, whatever the answers will need: as vLLM, which preempts when they
    need it.

    Loses near the limit: what was computed for a preempted request is computed again. A host that does not see output
    (`ReplicaView.requests` is empty) takes it for none.

    >>> replica = ReplicaView("gpu/0", "gpu", num_running=1, max_tokens_in_flight=1000)
    >>> replica.running.hold("other", (), 500, 300)
    >>> aggressive(RequestView("r", "gpu", num_prompt_tokens=500, num_expected_output_tokens=400), replica, SchedView())
    Admitted()
    >>> aggressive(RequestView("r", "gpu", num_prompt_tokens=501), replica, SchedView())
    Deferred(until=None, until_s=None)
    """
    limit = replica.max_tokens_in_flight
    if limit is None or replica.num_running == 0:
        return ADMITTED
    num_shared, own = replica.running.split_beside(request.prefix_key)
    num_now = num_shared + sum(own.values()) + sum(one.num_output_tokens for one in replica.requests.values())
    num_further = replica.running.num_further_tokens(request.prefix_key, request.num_prompt_tokens, 0)
    return ADMITTED if num_now + num_further <= limit else NO_ROOM


def past_future(request: RequestView, replica: ReplicaView, sched: SchedView) -> Admitted | Deferred:
    """Admit as Past-Future does (Gong et al., ASPLOS 2025, LightLLM): the predicted KV peak of all that would run stays
    within the limit, less a reserve of 5 % and what is retained.

    How long answers become is drawn from those of the same step and model, longer than what is there already; the
    largest peak of a few draws counts. A request's draws are its own and stay the same, so one that was refused is not
    admitted by luck. Where nothing is known the bound is taken, as `conservative` does. Loses where a step's answers
    change their length all at once (the history is of yesterday), and for the first calls of each step; counts tokens
    with half a block for each request, so that a few of the largest may still collide.

    >>> from sundog.sched.books.samples import RecentSamples
    >>> short = RecentSamples(max_samples=100)
    >>> for num_tokens in range(20, 40):
    ...     short.add(num_tokens)
    >>> sched = SchedView(output_lengths={("flow/sum", "m"): short})
    >>> replica = ReplicaView("gpu/0", "gpu", num_running=1, max_tokens_in_flight=1000)
    >>> replica.running.hold("other", (), 300, 100)
    >>> new = RequestView("r", "gpu", node="flow/sum", model="m", num_prompt_tokens=300, num_expected_output_tokens=400)
    >>> conservative(new, replica, sched), past_future(new, replica, sched)
    (Deferred(until=None, until_s=None), Admitted())
    """
    limit = replica.max_tokens_in_flight
    if limit is None or replica.num_running == 0:
        return ADMITTED
    num_shared, own = replica.running.split_beside(request.prefix_key)
    num_rounded = (replica.block_tokens - 1) / 2
    room = limit * (1 - RESERVED_SHARE) - replica.num_retained_tokens - num_shared
    num_new = replica.running.num_further_tokens(request.prefix_key, request.num_prompt_tokens, 0)
    for number in range(min(MAX_DRAWS, DRAWN_REQUESTS // (len(own) + 1) + 1)):
        held = [(num_new + num_rounded, _drawn_tokens(request, sched, number))]
        for owner, num_own in own.items():
            other = replica.requests.get(owner)
            if other is None:
                held.append((num_own + num_rounded, replica.running.num_other_tokens(owner)))
            else:
                num_now = num_own + num_rounded + other.num_output_tokens
                held.append((num_now, _drawn_tokens(other, sched, number)))
        if predicted_peak_tokens(held) > room:
            return NO_ROOM
    return ADMITTED


def beside_retained(request: RequestView, replica: ReplicaView, sched: SchedView) -> Admitted | Deferred:
    """Admit a program that has nothing retained only into room that neither what runs will need nor what is retained
    takes: else it pushes out what another's next call will read, and that call computes it again.

    Modelled on 24 to 32 agents of ten turns, with a cache for 20 to 30 % of their last prompts
    (benchmarks/vllm_agents_modelled.py): mean completion 1.35 to 1.7 times better than by Continuum's retention alone.
    That admitting whole programs matters more than pinning is ThunderAgent's finding. Loses slots while tools run: a
    cache that is full of what is retained lets nobody new begin, so retention needs its bound in time.

    >>> from sundog.sched.views import WorkflowView
    >>> replica = ReplicaView("gpu/0", "gpu", num_running=1, max_tokens_in_flight=1000, num_retained_tokens=900)
    >>> sched = SchedView(workflows={"kept": WorkflowView("kept", arrival_s=0.0, retained_until_s=60.0)})
    >>> beside_retained(RequestView("r", "gpu", num_prompt_tokens=200, workflow_id="new"), replica, sched)
    Deferred(until=None, until_s=None)
    >>> beside_retained(RequestView("r", "gpu", num_prompt_tokens=200, workflow_id="kept"), replica, sched)
    Admitted()
    """
    limit = replica.max_tokens_in_flight
    workflow = sched.workflows.get(request.workflow_id)
    is_retained = workflow is not None and request.arrival_time < workflow.retained_until_s
    if limit is None or is_retained or replica.num_running == 0 or replica.num_retained_tokens == 0:
        return ADMITTED
    num_shared, own = replica.running.split_beside(request.prefix_key)
    num_to_come = sum(one.num_output_tokens + one.num_decode_tokens for one in replica.requests.values())
    num_further = replica.running.num_further_tokens(request.prefix_key, request.num_prompt_tokens, 0)
    num_tokens = num_shared + sum(own.values()) + num_to_come + num_further + replica.num_retained_tokens
    return ADMITTED if num_tokens <= limit else NO_ROOM


def _drawn_tokens(request: RequestView, sched: SchedView, number: int) -> float:
    return remaining_output_tokens(request, sched, draw(request.request_id, number))


def predicted_peak_tokens(held: Iterable[tuple[float, float]]) -> float:
    """Return the most tokens that requests hold at once, of pairs (held now, still to come), when each grows by one
    token a step and gives all back at its end: it is reached at the end of one of them."""
    peak = num_held = 0.0
    for num_left, (num_now, num_to_come) in enumerate(sorted(held, key=lambda pair: -pair[1]), start=1):
        num_held += num_now
        peak = max(peak, num_held + num_left * num_to_come)
    return peak


def promised_slots_are_kept(request: RequestView, replica: ReplicaView, sched: SchedView) -> Admitted | Deferred:
    """Keep slots that are promised from new rows where the cache is small. A slot is promised to an open workflow,
    whose next call is about to come, and to a request that waits for the prefix that another one computes. They will
    read KV blocks that the new row's would push out of the cache.

    Small: it does not hold a prompt such as this for four times the slots (what a prompt does not share passes through
    the cache too). Modelled on 102 to 600 rows of three steps, six rows to a document (benchmarks/prefix_order.py):
    with a cache for a twentieth of the prompt tokens nothing is computed twice, where 1.01 to 1.3 times as much was
    without this rule. Loses a slot for the moment between two steps, so it rests while nothing is evicted at all.

    >>> from sundog.sched.books.prefix_index import PrefixIndex
    >>> cache = PrefixIndex(max_blocks=10)
    >>> replica = ReplicaView("gpu/0", "gpu", max_concurrency=2, num_running=1, num_open_workflows=1, prefixes=cache)
    >>> promised_slots_are_kept(RequestView("new", "gpu", prefix_key=(1, 2)), replica, SchedView())
    Deferred(until=None, until_s=None)
    >>> promised_slots_are_kept(RequestView("next", "gpu", prefix_key=(1, 2), is_successor=True), replica, SchedView())
    Admitted()
    """
    if sched.is_roomy or request.is_successor or replica.num_running == 0:
        return ADMITTED
    num_prompt_blocks = CACHED_PROMPTS_PER_SLOT * replica.max_concurrency * len(request.prefix_key)
    num_taken = replica.num_running + replica.num_parked + replica.num_open_workflows
    is_small = num_prompt_blocks > replica.prefixes.max_blocks
    return NO_ROOM if is_small and num_taken >= replica.max_concurrency else ADMITTED


def one_warms_the_prefix(request: RequestView, replica: ReplicaView, sched: SchedView) -> Admitted | Deferred:
    """Defer a request while another one computes its prefix, so that the prefix is computed once.

    Measured on openvino-genai: 64 requests with one cold prefix, sent at once, share nothing; one first, then the rest,
    share all of it. Loses one prefill's time when the shared prefix is short against the rest. vLLM lets requests share
    blocks that are still being computed: there nobody waits.

    >>> from sundog.sched.books.prefix_index import PrefixIndex
    >>> replica = ReplicaView("gpu/0", "gpu", num_running=1, prefixes=PrefixIndex(100))
    >>> _ = replica.prefixes.begin((1, 2), "first")
    >>> one_warms_the_prefix(RequestView("second", "gpu", prefix_key=(1, 2, 3)), replica, SchedView())
    Deferred(until='first', until_s=None)
    >>> one_warms_the_prefix(RequestView("another", "gpu", prefix_key=(7, 8)), replica, SchedView())
    Admitted()
    """
    if replica.shares_cold_prefixes:
        return ADMITTED
    warming = replica.prefixes.computing(request.prefix_key)
    return ADMITTED if warming is None else Deferred(until=warming)
