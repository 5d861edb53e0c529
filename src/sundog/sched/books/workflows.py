"""The book of workflows: which are under way, what they have had, and how long their tools take.

Owns what requests say of the workflows that they belong to, and what is measured of those. The core keeps one for a
host, the plugin one for an engine. Never decides, never reads a clock: the time is the view's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from math import inf

from sundog.sched.books.fairness import VirtualTokens
from sundog.sched.books.samples import RecentSamplesByKey
from sundog.sched.books.turns import TurnCounts
from sundog.sched.facts import CallFacts
from sundog.sched.views import RequestView, SchedView, WorkflowView

MAX_WORKFLOWS = 65_536
MAX_KEYS = 4_096
MAX_LENGTHS = 200
"""Lengths of answers remembered for each step and model, as many as Past-Future keeps."""
MAX_TOOL_TIMES = 4_096
NUM_LOOKED_AT = 2
"""More than one, so that more are forgotten than come."""
RECENT = 0.1
"""Weight of the newest sample in a moving mean."""


class WorkflowBook:
    """Workflows by id, the one that asked longest ago first. `sched`: the host's view, where what is measured stands.

    A request with facts is charged to its tenant from its arrival to its end; one without is no business of this
    book, except that its answer's length is remembered."""

    def __init__(
        self,
        sched: SchedView,
        on_forgotten: Callable[[str], object] = lambda workflow_id: None,
        max_idle_s: float = inf,
    ) -> None:
        """`on_forgotten` hears of each workflow that leaves the book, for whatever reason. `max_idle_s` as of a policy
        set."""
        self.by_id: OrderedDict[str, WorkflowView] = OrderedDict()
        self._output_lengths: RecentSamplesByKey[tuple[str, str]] = RecentSamplesByKey(MAX_LENGTHS, MAX_KEYS)
        self._tool_times_s: RecentSamplesByKey[str] = RecentSamplesByKey(MAX_TOOL_TIMES, MAX_KEYS)
        self._service = VirtualTokens()
        self._turns = TurnCounts()
        self._num_workflows = 0
        #: By id, when its first call came, the one that asked longest ago first.
        self._arrivals_s: OrderedDict[str, float] = OrderedDict()
        self._sched = sched
        self._on_forgotten = on_forgotten
        self._max_idle_s = max_idle_s
        sched.output_lengths = self._output_lengths
        sched.tool_times_s = self._tool_times_s
        sched.virtual_tokens = self._service
        sched.workflows = self.by_id
        sched.program_arrivals_s = self._arrivals_s

    def arrive(self, request: RequestView) -> int:
        """Note what the request says of its workflow. Returns how many workflows have come so far, its own one counted;
        0 for a request on its own."""
        self._service.arrive(request.facts.tenant)
        return self._continue(request, request.facts) if request.workflow_id else 0

    def start(self, request: RequestView, num_cached_tokens: int, block_tokens: int) -> None:
        """It starts, for the first time or again, and finds so many tokens of its prompt computed."""
        workflow = self.by_id.get(request.workflow_id)
        if workflow is None:
            return
        workflow.replica_ids[request.pool] = request.replica_id or ""
        if request.num_preemptions == 0 and workflow.num_held_tokens > num_cached_tokens + block_tokens:
            self._sched.requeue_s = moved(self._sched.requeue_s, max(0.0, self._sched.time_s - request.arrival_time))
        workflow.num_held_tokens = 0

    def charge(self, request: RequestView, num_prompt_tokens: int, num_output_tokens: int) -> None:
        """Count the tokens that were computed for it."""
        facts = request.facts
        self._service.charge(facts.tenant, num_prompt_tokens, num_output_tokens, facts.weight)
        workflow = self.by_id.get(request.workflow_id)
        if workflow is not None:
            workflow.num_attained_tokens += num_prompt_tokens + num_output_tokens

    def measure_length(self, request: RequestView, num_output_tokens: int) -> None:
        """An answer has ended by itself."""
        self._output_lengths.add((request.node, request.model), num_output_tokens)

    def end(self, request: RequestView, *, is_whole: bool, num_held_tokens: int) -> WorkflowView | None:
        """It has ended, by itself where it `is_whole`, and `num_held_tokens` of its KV are there. Returns its workflow
        where another call will come."""
        self._service.leave(request.facts.tenant)
        workflow = self.by_id.get(request.workflow_id)
        if workflow is None:
            return None
        workflow.num_turns += 1
        workflow.num_open = max(0, workflow.num_open - 1)
        workflow.last_end_s = self._sched.time_s
        if request.facts.is_last_turn or not (is_whole or self._max_idle_s < inf):
            self._turns.add(workflow.num_turns)
            self._sched.turns_correlation = self._turns.correlation
            self._let_go(workflow.workflow_id)
            return None
        workflow.tool = request.facts.tool
        workflow.expected_pause_s = request.facts.expected_pause_s
        workflow.tool_began_s = self._sched.time_s
        workflow.num_held_tokens = num_held_tokens
        return workflow

    def forget(self, workflow_id: str) -> None:
        """It is known to ask no more."""
        self._arrivals_s.pop(workflow_id, None)
        self._let_go(workflow_id)

    def forget_idle(self) -> None:
        """Forget those of which nothing has waited or run for too long; looks at the first few, at every event."""
        if self._max_idle_s == inf:
            return
        since_s = self._sched.time_s - self._max_idle_s
        for workflow_id in list(islice(self.by_id, NUM_LOOKED_AT)):
            workflow = self.by_id[workflow_id]
            if workflow.num_open:
                self.by_id.move_to_end(workflow_id)
            elif workflow.last_end_s is None or workflow.last_end_s <= since_s:
                self.forget(workflow_id)
            else:
                return

    def _let_go(self, workflow_id: str) -> None:
        """Its last turn has ended, on the engine that had it: a row asks others still, and stands where it came."""
        if self.by_id.pop(workflow_id, None) is not None:
            self._on_forgotten(workflow_id)

    def _arrival_s(self, request: RequestView) -> float:
        arrival_s = self._arrivals_s.setdefault(request.workflow_id, request.arrival_time)
        self._arrivals_s.move_to_end(request.workflow_id)
        if len(self._arrivals_s) > MAX_WORKFLOWS:
            self._arrivals_s.popitem(last=False)
        return arrival_s

    def _continue(self, request: RequestView, facts: CallFacts) -> int:
        arrival_s, workflow = self._arrival_s(request), self.by_id.get(request.workflow_id)
        if workflow is None:
            workflow = WorkflowView(request.workflow_id, arrival_s, tenant=facts.tenant)
            self.by_id[request.workflow_id] = workflow
            self._num_workflows += 1
            if len(self.by_id) > MAX_WORKFLOWS:
                self.forget(next(iter(self.by_id)))
        elif workflow.tool_began_s is not None:
            tool_s = max(0.0, request.arrival_time - workflow.tool_began_s)
            for tool in {workflow.tool, ""}:
                self._tool_times_s.add(tool, tool_s)
        workflow.tool, workflow.tool_began_s, workflow.expected_pause_s = "", None, None
        workflow.steps_to_next_use = facts.steps_to_next_use
        workflow.num_remaining_steps = facts.num_remaining_steps
        workflow.num_remaining_tokens = facts.num_remaining_tokens
        workflow.deadline_s = request.deadline_s
        workflow.num_open += 1
        self.by_id.move_to_end(request.workflow_id)
        return self._num_workflows


def moved(mean: float, sample: float) -> float:
    """Return a moving mean with one more sample."""
    return mean + RECENT * (sample - mean) if mean else sample
