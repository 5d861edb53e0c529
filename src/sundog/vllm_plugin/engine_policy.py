"""A policy set at work inside an engine: asks its functions at the scheduler's hooks and keeps the books for them.

Owns the order of questions. Never decides by itself, never reads a clock, imports nothing of vLLM.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sundog.sched.policy import Admitted, PolicySet
from sundog.sched.views import BlockView
from sundog.vllm_plugin.drafts import Drafts
from sundog.vllm_plugin.engine_books import EngineBooks
from sundog.vllm_plugin.engine_types import EngineRequest, KVCacheBlock
from sundog.vllm_plugin.envelope import BadEnvelope, read_envelope
from sundog.vllm_plugin.free_blocks import Hold, TwoTierQueue
from sundog.vllm_plugin.telemetry import StepTelemetry

OBSERVE = "vllm_default"
"""The policy set that decides nothing."""


class EnginePolicy:
    """This class puts the decisions of a policy set to vLLM's scheduler. `policy` None observes only. A request without
    an envelope gets no rank, no question and no hold."""

    def __init__(self, policy: PolicySet | None, books: EngineBooks, *, block_size: int, max_draft_tokens: int) -> None:
        self.policy = policy
        self.books = books
        self.free_blocks: TwoTierQueue | None = None
        self.drafts = None if policy is None else Drafts(policy.draft, max_draft_tokens)
        self.num_bad_envelopes = 0
        self.num_preempted = 0
        self._block_size = block_size

    @property
    def name(self) -> str:
        return OBSERVE if self.policy is None else self.policy.name

    @property
    def is_idle(self) -> bool:
        """Return whether there is nothing to decide: no request has an envelope, or there is no policy."""
        return self.policy is None or not self.books.envelopes

    def arrive(self, request: EngineRequest) -> BadEnvelope | None:
        """Take in a request, and return the fault of its envelope, which is then passed over."""
        parameters = request.sampling_params
        fault = envelope = None
        try:
            envelope = read_envelope(parameters.extra_args if parameters is not None else None)
        except BadEnvelope as error:
            fault = error
            self.num_bad_envelopes += 1
        self.books.arrive(request, envelope)
        return fault

    def rank_of(self, request: EngineRequest) -> tuple[float, ...] | None:
        """Return the rank; None for a request that vLLM's own order is for."""
        if self.policy is None or request.request_id not in self.books.envelopes:
            return None
        return self.policy.rank(self.books.requests[request.request_id], self.books.sched)

    def begin_step(self, time_s: float, num_waiting: int) -> None:
        """Set the books to the time of the step that begins, and let go what is kept no longer."""
        self.books.sched.time_s = time_s
        self.books.sched.num_queued = self.books.replica.num_waiting = num_waiting
        self.num_preempted = 0
        if self.free_blocks is not None:
            self.free_blocks.release_expired(time_s)
            self.books.replica.num_retained_tokens = self.free_blocks.num_kept_blocks * self._block_size

    def see_running(self, running: Sequence[EngineRequest]) -> None:
        """Bring the views of what runs up to date."""
        for request in running:
            self.books.see(request)

    def start_new(self, running: Sequence[EngineRequest], scheduled: Mapping[str, int]) -> None:
        """Note those at the end of `running` that are new there; `scheduled`: tokens already counted as computed."""
        known = self.books.replica.requests
        for request in reversed(running):
            if request.request_id in known:
                break
            num_cached_tokens = request.num_computed_tokens - scheduled.get(request.request_id, 0)
            workflow_id = self.books.requests[request.request_id].workflow_id
            self.books.start(request, num_cached_tokens=num_cached_tokens)
            if self.free_blocks is not None and workflow_id:
                self.free_blocks.release(workflow_id)

    def admits(self, request: EngineRequest, running: Sequence[EngineRequest]) -> bool:
        """Return whether the request may start now. One that holds blocks already always may, and any while nothing
        runs."""
        if self.policy is None or request.request_id not in self.books.envelopes:
            return True
        if not running or request.num_computed_tokens > 0 or not self.policy.admit:
            return True
        self.start_new(running, {})
        if self.free_blocks is not None:
            self.books.replica.num_retained_tokens = self.free_blocks.num_kept_blocks * self._block_size
        view, replica, sched = self.books.requests[request.request_id], self.books.replica, self.books.sched
        return all(isinstance(admit(view, replica, sched), Admitted) for admit in self.policy.admit)

    def cut_drafts(self, running: Iterable[EngineRequest]) -> None:
        """Shorten the drafts of ranked requests to what the policy finds worth verifying."""
        drafted = [request for request in running if request.spec_token_ids]
        if self.drafts is None or not drafted:
            return
        length = self.drafts.length(len(drafted), self.books.sched)
        for request in drafted:
            if request.request_id in self.books.envelopes and len(request.spec_token_ids) > length:
                request.spec_token_ids = request.spec_token_ids[:length]

    def verify_drafts(self, num_drafted: int, num_accepted: int) -> None:
        """Note how many of one request's drafts of a step were accepted."""
        if self.drafts is not None:
            self.drafts.verified(num_drafted, num_accepted)

    def end_step(self, time_s: float, step: StepTelemetry) -> None:
        """A step's outputs are there."""
        self.books.sched.time_s = time_s
        self.books.measure(
            elapsed_s=step.elapsed_s,
            num_prefill_tokens=step.num_prefill_tokens,
            num_decode_tokens=step.num_decode_tokens,
        )
        if self.drafts is not None:
            self.drafts.measure(step.num_prefill_tokens + step.num_decode_tokens, step.elapsed_s)

    def preempt(self, request: EngineRequest) -> None:
        self.num_preempted += 1
        self.books.preempt(request)

    def end(self, request: EngineRequest, blocks: Iterable[KVCacheBlock], *, is_whole: bool) -> None:
        """The request has ended and its blocks are about to be free: keep them if its workflow will come back soon."""
        view = self.books.requests[request.request_id]
        workflow = self.books.end(request, is_whole=is_whole)
        if self.policy is None or self.free_blocks is None or not view.workflow_id:
            return
        keep_s = 0.0
        if workflow is not None:
            keep_s = self.policy.retain(workflow, self.books.replica, self.books.sched)
        if workflow is None or keep_s <= 0:
            self.free_blocks.release(view.workflow_id)
            return
        until_s = workflow.retained_until_s = self.books.sched.time_s + keep_s
        hold = Hold(
            view.workflow_id, until_s, self.books.sched.time_s, view.facts.prefix_group, workflow.steps_to_next_use
        )
        self.free_blocks.keep(hold, blocks)

    def evict_rank(self, hold: Hold) -> tuple[float, ...]:
        """Return the rank of all blocks of a hold; smaller is given up first."""
        block = BlockView(
            hold.last_used_s,
            workflow_id=hold.owner,
            prefix_group=hold.prefix_group,
            steps_to_next_use=hold.steps_to_next_use,
            retained_until_s=hold.until_s,
        )
        assert self.policy is not None, "holds are made by a policy"
        return self.policy.evict_rank(block, self.books.sched)
