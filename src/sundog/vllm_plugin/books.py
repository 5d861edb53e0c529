"""What the plugin knows inside an engine: its requests and workflows as policies see them, and what was measured.

Owns the views. Never decides, never reads a clock. All times are seconds of the wall clock, as vLLM's arrival times.
"""

from __future__ import annotations

from collections import OrderedDict

from sundog.sched.fairness import VirtualTokens
from sundog.sched.histories import KeyedHistory
from sundog.sched.prefix_index import PrefixIndex, PrefixOrder
from sundog.sched.views import ReplicaView, RequestView, SchedView, WorkflowView
from sundog.vllm_plugin.engine_types import EngineRequest
from sundog.vllm_plugin.envelope import Envelope
from sundog.vllm_plugin.turns import TurnCounts

MAX_WORKFLOWS = 65_536
MAX_KEYS = 4_096
MAX_LENGTHS = 200
MAX_TOOL_TIMES = 4_096
MAX_PREFIX_BLOCKS = 1_000_000
MAX_KEY_BLOCKS = 256
RECENT = 0.1
"""Weight of the newest sample in a moving mean."""


class Books:
    """`requests`: all that wait or run, by id; `envelopes`: of those that have one. `knows_prefixes`: whether prefix
    keys are made."""

    def __init__(
        self,
        *,
        model: str,
        num_blocks: int,
        block_size: int,
        max_num_seqs: int,
        max_model_len: int,
        knows_prefixes: bool,
    ) -> None:
        self.requests: dict[str, RequestView] = {}
        self.envelopes: dict[str, Envelope] = {}
        self.workflows: OrderedDict[str, WorkflowView] = OrderedDict()
        self.output_lengths: KeyedHistory[tuple[str, str]] = KeyedHistory(MAX_LENGTHS, MAX_KEYS)
        self.tool_times_s: KeyedHistory[str] = KeyedHistory(MAX_TOOL_TIMES, MAX_KEYS)
        self.service = VirtualTokens()
        self.replica = ReplicaView(
            "",
            "",
            max_concurrency=max_num_seqs,
            # vLLM keeps one block that stands for none.
            max_tokens_in_flight=(num_blocks - 1) * block_size,
            block_tokens=block_size,
            prefixes=PrefixIndex(num_blocks),
            shares_cold_prefixes=True,
        )
        self.sched = SchedView(
            num_cache_blocks=num_blocks,
            output_lengths=self.output_lengths,
            tool_times_s=self.tool_times_s,
            virtual_tokens=self.service,
            workflows=self.workflows,
        )
        self._model = model
        self._block_size = block_size
        # A key has at most MAX_KEY_BLOCKS parts, however long prompts may be; all keys have parts of one size.
        self._stride = -(-max_model_len // (block_size * MAX_KEY_BLOCKS))
        self._prefixes = PrefixOrder(MAX_PREFIX_BLOCKS) if knows_prefixes else None
        self._turns = TurnCounts()
        self._num_workflows = 0

    def arrive(self, request: EngineRequest, envelope: Envelope | None) -> RequestView:
        view = RequestView(
            request.request_id,
            "",
            arrival_time=request.arrival_time,
            num_prompt_tokens=request.num_prompt_tokens,
            num_expected_output_tokens=request.max_tokens,
            max_tokens=request.max_tokens,
            model=self._model,
            priority=request.priority,
        )
        self.requests[view.request_id] = view
        if self._prefixes is not None:
            view.prefix_key = tuple(map(hash, request.block_hashes[self._stride - 1 :: self._stride]))
            view.prefix_order = self._prefixes.numbers(view.prefix_key)
            self.sched.num_seen_blocks = self._prefixes.num_blocks
        if envelope is not None:
            self.envelopes[view.request_id] = envelope
            self._tell(view, envelope)
            self.service.arrive(view.tenant)
        return view

    def start(self, request: EngineRequest, *, num_cached_tokens: int) -> None:
        """The request runs, for the first time or again."""
        view = self.requests[request.request_id]
        self.replica.requests[view.request_id] = view
        self.replica.num_running = len(self.replica.requests)
        self.replica.num_routed += view.num_preemptions == 0
        self.replica.running.hold(view.request_id, view.prefix_key, view.num_prompt_tokens, view.max_output_tokens)
        self.see(request)
        if view.request_id in self.envelopes:
            self._charge(view, max(0, view.num_prompt_tokens - num_cached_tokens), 0)
        workflow = self.workflows.get(view.workflow_id)
        if workflow is None:
            return
        if view.num_preemptions == 0 and workflow.num_held_tokens > num_cached_tokens + self._block_size:
            self.sched.requeue_s = _moved(self.sched.requeue_s, max(0.0, self.sched.time_s - view.arrival_time))
        workflow.num_held_tokens = 0

    def see(self, request: EngineRequest) -> None:
        """Take note of how far it has come."""
        view = self.requests[request.request_id]
        num_new = request.num_output_tokens - view.num_output_tokens
        if num_new and view.request_id in self.envelopes:
            self._charge(view, 0, num_new)
        view.num_computed_tokens = request.num_computed_tokens
        view.num_output_tokens = request.num_output_tokens

    def leave(self, request: EngineRequest) -> None:
        """The request no longer runs."""
        view = self.requests[request.request_id]
        if self.replica.requests.pop(view.request_id, None) is not None:
            self.replica.running.release(view.request_id)
            self.replica.num_running = len(self.replica.requests)
        view.num_computed_tokens = 0

    def preempt(self, request: EngineRequest) -> None:
        self.leave(request)
        self.requests[request.request_id].num_preemptions += 1

    def end(self, request: EngineRequest, *, is_whole: bool) -> WorkflowView | None:
        """The request has ended; `is_whole`: by itself, not aborted. The workflow, while another turn will come."""
        self.see(request)
        self.leave(request)
        view = self.requests.pop(request.request_id)
        envelope = self.envelopes.pop(request.request_id, None)
        if envelope is not None:
            self.service.leave(view.tenant)
        if is_whole:
            self.output_lengths.add((view.node, view.model), request.num_output_tokens)
        workflow = self.workflows.get(view.workflow_id)
        if envelope is None or workflow is None:
            return None
        workflow.num_turns += 1
        if envelope.last_turn or not is_whole:
            self._turns.add(workflow.num_turns)
            self.sched.turns_correlation = self._turns.correlation
            self._forget(workflow)
            return None
        if workflow.tool_began_s is None:
            self.replica.num_open_workflows += 1
        workflow.tool = envelope.tool
        workflow.tool_began_s = self.sched.time_s
        workflow.num_held_tokens = request.num_tokens // self._block_size * self._block_size
        return workflow

    def measure(self, *, elapsed_s: float, num_prefill_tokens: int, num_decode_tokens: int) -> None:
        """A step has taken so long."""
        sched = self.sched
        if num_prefill_tokens > num_decode_tokens:
            sched.prefill_token_s = _moved(sched.prefill_token_s, elapsed_s / num_prefill_tokens)
        elif num_decode_tokens:
            sched.decode_token_s = _moved(sched.decode_token_s, elapsed_s)

    def _charge(self, view: RequestView, num_prompt_tokens: int, num_output_tokens: int) -> None:
        self.service.charge(view.tenant, num_prompt_tokens, num_output_tokens)
        if view.workflow_id in self.workflows:
            self.workflows[view.workflow_id].num_attained_tokens += num_prompt_tokens + num_output_tokens

    def _tell(self, view: RequestView, envelope: Envelope) -> None:
        view.node = f"{envelope.flow}/{envelope.node}"
        view.workflow_id = envelope.workflow
        view.tenant = envelope.tenant
        view.turn = view.depth = envelope.turn
        view.is_last_turn = envelope.last_turn
        view.has_successor = not envelope.last_turn
        view.is_successor = envelope.turn > 0
        view.prefix_group = envelope.prefix_group
        view.steps_to_next_use = envelope.steps_to_next_use
        view.successor_path_s = envelope.successor_path_s
        if envelope.expected_output_tokens is not None:
            view.num_expected_output_tokens = min(envelope.expected_output_tokens, view.max_tokens)
        if envelope.deadline_s is not None:
            view.deadline_s = view.arrival_time + envelope.deadline_s
        if envelope.workflow:
            view.row_index = self._tell_workflow(view, envelope)

    def _tell_workflow(self, view: RequestView, envelope: Envelope) -> int:
        workflow = self.workflows.get(envelope.workflow)
        if workflow is None:
            workflow = WorkflowView(envelope.workflow, arrival_s=view.arrival_time, tenant=envelope.tenant)
            self.workflows[envelope.workflow] = workflow
            self._num_workflows += 1
            if len(self.workflows) > MAX_WORKFLOWS:
                self._forget(next(iter(self.workflows.values())))
        elif workflow.tool_began_s is not None:
            tool_s = max(0.0, view.arrival_time - workflow.tool_began_s)
            for tool in {workflow.tool, ""}:
                self.tool_times_s.add(tool, tool_s)
            self.replica.num_open_workflows -= 1
        workflow.tool, workflow.tool_began_s = "", None
        workflow.steps_to_next_use = envelope.steps_to_next_use
        workflow.num_remaining_steps = envelope.remaining_steps
        workflow.num_remaining_tokens = envelope.remaining_tokens
        workflow.deadline_s = view.deadline_s
        self.workflows.move_to_end(envelope.workflow)
        return self._num_workflows

    def _forget(self, workflow: WorkflowView) -> None:
        self.replica.num_open_workflows -= workflow.tool_began_s is not None
        del self.workflows[workflow.workflow_id]


def _moved(mean: float, sample: float) -> float:
    return mean + RECENT * (sample - mean) if mean else sample
