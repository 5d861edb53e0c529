"""The core's use of the book of workflows: what it tells it of turns that it sees only begin and end.

Owns what is charged before the true counts are known, and what is taken to be retained. An engine's own books see each
token; the core has a request's prompt when it starts and the engine's counts when it ends. Never decides.
"""

from __future__ import annotations

from sundog.sched.books.programs.places import ContextPlaces
from sundog.sched.books.retained import RetainedBook
from sundog.sched.books.workflows import WorkflowBook
from sundog.sched.events import RequestFinished
from sundog.sched.policy import PolicySet
from sundog.sched.views import ReplicaView, RequestView, SchedView


class TurnBook:
    """Does nothing but remember lengths of answers for a policy set that needs no workflows."""

    def __init__(self, policies: PolicySet, sched: SchedView) -> None:
        self._needs_workflows = policies.needs_workflows
        self._retain = policies.retain
        self._sched = sched
        self._retained = RetainedBook()
        self._contexts = ContextPlaces()
        self._workflows = WorkflowBook(sched, self._let_go, policies.max_idle_s)

    def pass_time(self, time_s: float) -> None:
        """Let go what was retained until now, and forget who has been away for too long."""
        self._retained.release_expired(time_s)
        self._workflows.forget_idle()

    def arrive(self, request: RequestView) -> None:
        if self._needs_workflows:
            self._workflows.arrive(request)
            self._contexts.arrive(request)

    def start(self, request: RequestView, num_cached_tokens: int) -> None:
        """Charge its prompt, but for what is taken to be in the replica's cache."""
        if not self._needs_workflows:
            return
        self._retained.release(request.workflow_id)
        self._contexts.start(request)
        self._workflows.start(request, num_cached_tokens, block_tokens=0)
        request.num_charged_tokens = request.num_prompt_tokens - num_cached_tokens
        self._workflows.charge(request, request.num_charged_tokens, 0)

    def finish(self, request: RequestView, replica: ReplicaView, event: RequestFinished) -> None:
        """Charge its answer, and what was wrong about its prompt; retain its KV if its workflow will come back soon."""
        if event.num_output_tokens:
            self._workflows.measure_length(request, event.num_output_tokens)
        if not self._needs_workflows:
            return
        num_prompt_tokens = max(0, event.num_prompt_tokens - event.num_cached_tokens) - request.num_charged_tokens
        self._workflows.charge(request, num_prompt_tokens, event.num_output_tokens)
        num_held_tokens = event.num_prompt_tokens + event.num_output_tokens
        workflow = self._workflows.end(request, is_whole=True, num_held_tokens=num_held_tokens)
        keep_s = 0.0 if workflow is None else self._retain(workflow, replica, self._sched)
        if workflow is not None:
            self._keep_context(request, replica, event)
        if workflow is not None and keep_s > 0:
            workflow.retained_until_s = event.time_s + keep_s
            self._retained.keep(request.workflow_id, replica, num_held_tokens, workflow.retained_until_s)

    def break_off(self, request: RequestView) -> None:
        """It was given up or cancelled."""
        if self._needs_workflows:
            self._workflows.end(request, is_whole=False, num_held_tokens=0)

    def forget_replica(self, replica: ReplicaView) -> None:
        self._retained.forget_replica(replica)
        self._contexts.forget_replica(replica)

    def leave(self, workflow_id: str) -> None:
        """It is known to ask no more."""
        self._workflows.forget(workflow_id)

    def _let_go(self, workflow_id: str) -> None:
        self._retained.release(workflow_id)
        self._contexts.forget(workflow_id)

    def _keep_context(self, request: RequestView, replica: ReplicaView, event: RequestFinished) -> None:
        """Its workflow may come back for what the call has left, but for what others that run hold too."""
        num_prompt_tokens = event.num_prompt_tokens or request.num_prompt_tokens
        num_tokens = replica.running.num_further_tokens(request.prefix_key, num_prompt_tokens, event.num_output_tokens)
        arrival_s = self._sched.program_arrival_s(request)
        self._contexts.end(request, replica, arrival_s, num_tokens, event.time_s)
