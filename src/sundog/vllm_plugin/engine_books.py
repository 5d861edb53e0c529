"""The plugin's books inside an engine: its requests and workflows as policies see them, and what was measured.

Owns the views. Never decides, never reads a clock. All times are seconds of the wall clock, as vLLM's arrival times.
"""

from __future__ import annotations

from dataclasses import replace

from sundog.sched.books.between_calls import BetweenCalls
from sundog.sched.books.prefix_index import PrefixIndex, PrefixOrder
from sundog.sched.books.workflows import WorkflowBook, moved
from sundog.sched.facts import LOW_TIERS, CallFacts
from sundog.sched.views import ReplicaView, RequestView, SchedView, WorkflowView
from sundog.vllm_plugin.engine_types import EngineRequest
from sundog.vllm_plugin.envelope import Envelope

MAX_PREFIX_BLOCKS = 1_000_000
MAX_KEY_BLOCKS = 256


class EngineBooks:
    """This class has the books of one vLLM engine. `requests`: all that wait or run, by id; `envelopes`: of those that
    have one. `knows_prefixes`: whether prefix keys are made."""

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
        self.sched = SchedView(num_cache_blocks=num_blocks)
        self._between_calls = BetweenCalls()
        self.workflow_book = WorkflowBook(self.sched, lambda workflow_id: self._between_calls.close("", workflow_id))
        self._model = model
        self._block_size = block_size
        # A key has at most MAX_KEY_BLOCKS parts, however long prompts may be; all keys have parts of one size.
        self._stride = -(-max_model_len // (block_size * MAX_KEY_BLOCKS))
        self._prefixes = PrefixOrder(MAX_PREFIX_BLOCKS) if knows_prefixes else None

    def arrive(self, request: EngineRequest, envelope: Envelope | None) -> RequestView:
        """Open the books for a request that vLLM takes in. `envelope` is None where it has none or a wrong one."""
        view = RequestView(
            request.request_id,
            "",
            arrival_time=request.arrival_time,
            num_prompt_tokens=request.num_prompt_tokens,
            num_expected_output_tokens=request.max_tokens,
            max_tokens=request.max_tokens,
            model=self._model,
            facts=CallFacts(priority=request.priority),
        )
        self.requests[view.request_id] = view
        if self._prefixes is not None:
            view.prefix_key = tuple(map(hash, request.block_hashes[self._stride - 1 :: self._stride]))
            view.prefix_order = self._prefixes.numbers(view.prefix_key)
            self.sched.num_seen_blocks = self._prefixes.num_blocks
        if envelope is not None:
            self.envelopes[view.request_id] = envelope
            self._tell(view, envelope)
        return view

    def start(self, request: EngineRequest, *, num_cached_tokens: int) -> None:
        """The request runs, for the first time or again."""
        view = self.requests[request.request_id]
        self.replica.requests[view.request_id] = view
        self.replica.num_running = len(self.replica.requests)
        self.replica.num_routed += view.num_preemptions == 0
        self.sched.num_starts_above = 0 if view.facts.tier in LOW_TIERS else self.sched.num_starts_above + 1
        self.replica.running.hold(view.request_id, view.prefix_key, view.num_prompt_tokens, view.max_output_tokens)
        self.see(request)
        if view.request_id in self.envelopes:
            self.workflow_book.charge(view, max(0, view.num_prompt_tokens - num_cached_tokens), 0)
            self.workflow_book.start(view, num_cached_tokens, self._block_size)

    def see(self, request: EngineRequest) -> None:
        """Take note of how far it has come."""
        view = self.requests[request.request_id]
        num_new = request.num_output_tokens - view.num_output_tokens
        if num_new and view.request_id in self.envelopes:
            self.workflow_book.charge(view, 0, num_new)
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
        """Note that the request has ended, by itself where it `is_whole` and not aborted; return its workflow while
        another turn will come."""
        self.see(request)
        self.leave(request)
        view = self.requests.pop(request.request_id)
        envelope = self.envelopes.pop(request.request_id, None)
        if is_whole:
            self.workflow_book.measure_length(view, request.num_output_tokens)
        if envelope is None:
            return None
        num_held_tokens = request.num_tokens // self._block_size * self._block_size
        workflow = self.workflow_book.end(view, is_whole=is_whole, num_held_tokens=num_held_tokens)
        if workflow is not None:
            self._between_calls.open(view, self.replica)
        return workflow

    def measure(self, *, elapsed_s: float, num_prefill_tokens: int, num_decode_tokens: int) -> None:
        """A step has taken so long."""
        sched = self.sched
        if num_prefill_tokens > num_decode_tokens:
            sched.prefill_token_s = moved(sched.prefill_token_s, elapsed_s / num_prefill_tokens)
        elif num_decode_tokens:
            sched.decode_token_s = moved(sched.decode_token_s, elapsed_s)

    def _tell(self, view: RequestView, envelope: Envelope) -> None:
        view.facts = replace(envelope.facts(), priority=view.facts.priority)
        view.node = view.facts.step_id
        view.workflow_id = envelope.workflow
        view.depth = envelope.turn
        view.has_successor = not envelope.last_turn
        view.is_successor = envelope.turn > 0
        if envelope.expected_output_tokens is not None:
            view.num_expected_output_tokens = min(envelope.expected_output_tokens, view.max_tokens)
        if envelope.deadline_s is not None:
            view.deadline_s = view.arrival_time + envelope.deadline_s
        if envelope.workflow:
            self._between_calls.close("", envelope.workflow)
        view.workflow_order = self.workflow_book.arrive(view)
