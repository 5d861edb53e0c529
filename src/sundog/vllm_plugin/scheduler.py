"""vLLM's schedulers with sundog's policies: `--scheduler-cls sundog.vllm_plugin.scheduler.SundogScheduler` where vLLM
schedules step by step (CPU), `SundogAsyncScheduler` where it schedules ahead (GPU).

Owns the hooks. Never decides: each hook hands over to `engine_policy`, and what no request has
asked for goes as in vLLM.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any

from sundog.errors import ConfigError
from sundog.sched.policies.speculation import full_length
from sundog.sched.policy import POLICIES, PolicySet
from sundog.vllm_plugin.control_calls import RPC, answer_control_call
from sundog.vllm_plugin.engine_books import EngineBooks
from sundog.vllm_plugin.engine_check import check_engine
from sundog.vllm_plugin.engine_policy import OBSERVE, EnginePolicy
from sundog.vllm_plugin.engine_types import EngineRequest, EngineScheduler, ModelRunnerOutput, SchedulerOutput
from sundog.vllm_plugin.free_blocks import TwoTierQueue
from sundog.vllm_plugin.options import read_plugin_options
from sundog.vllm_plugin.telemetry import Telemetry
from sundog.vllm_plugin.victims import worst_last
from sundog.vllm_plugin.waiting import WaitingQueue

if TYPE_CHECKING:
    # vLLM is not installed where types are checked; engine_types declares what is used of it.
    Hooks = EngineScheduler

    class Scheduler(EngineScheduler): ...

    class AsyncScheduler(EngineScheduler): ...

else:
    # The declarations must not come between the mixin and vLLM's own methods.
    Hooks = object
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler
    from vllm.v1.core.sched.scheduler import Scheduler

WHOLE = ("stop", "length")
log = logging.getLogger("vllm.sundog")


class SundogMixin(Hooks):
    """This mixin puts a policy set into vLLM's scheduler."""

    #: The clock of everything here; that of vLLM's arrival times unless a test or a model of time sets another.
    clock: Callable[[], float] = staticmethod(time.time)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        check_engine()
        super().__init__(*args, **kwargs)
        options = read_plugin_options(self.vllm_config.additional_config)
        policy = None if options.policy == OBSERVE else POLICIES.get(options.policy)
        if policy is not None:
            self._check_conflicts(policy)
        pool = self.kv_cache_manager.block_pool
        books = EngineBooks(
            model=str(self.vllm_config.model_config.model),
            num_blocks=pool.num_gpu_blocks,
            block_size=self.block_size,
            max_num_seqs=self.scheduler_config.max_num_seqs,
            max_model_len=self.vllm_config.model_config.max_model_len,
            knows_prefixes=policy is not None and (policy.needs_prefixes or bool(policy.admit)),
        )
        self.sundog = EnginePolicy(policy, books, block_size=self.block_size, max_draft_tokens=self.num_spec_tokens)
        self.telemetry = Telemetry(options.max_steps_kept)
        if policy is not None:
            self.waiting = WaitingQueue(self.waiting, self.sundog.rank_of)
            pool.free_block_queue = TwoTierQueue(pool.free_block_queue, self.sundog.evict_rank)
            self.sundog.free_blocks = pool.free_block_queue
        # vLLM's clients call engine methods by name (call_utility); this is the one that reaches the scheduler.
        engine_core: Any = import_module("vllm.v1.engine.core").EngineCore
        setattr(engine_core, RPC, lambda core, call, arguments: answer_control_call(core.scheduler, call, arguments))
        log.info("sundog: policy %s", options.policy)

    def add_request(self, request: EngineRequest) -> None:
        """Tell the policy of a new request, and add it as vLLM does."""
        # A request that is there already brings the next input of a streaming session.
        if request.request_id not in self.requests:
            fault = self.sundog.arrive(request)
            if fault is not None and self.sundog.num_bad_envelopes == 1:
                log.warning("sundog: %s; such requests are scheduled as in stock vLLM (said once)", fault)
        super().add_request(request)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        """Order what waits and what runs by the policy, and let vLLM schedule a step of it."""
        sundog = self.sundog
        sundog.begin_step(self.clock(), len(self.waiting))
        if not sundog.is_idle:
            sundog.see_running(self.running)
            self.waiting.refresh()
            if not self.scheduler_config.async_scheduling:
                sundog.cut_drafts(self.running)
            if self._may_preempt():
                self.running = worst_last(self.running, sundog.rank_of)
        output = super().schedule(throttle_prefills)
        if sundog.policy is not None:
            self.waiting.end_step()
        sundog.start_new(self.running, output.num_scheduled_tokens)
        self._note_step(output)
        return output

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, Any]:
        """Note what the step took and which drafts were accepted, and update as vLLM does."""
        step = self.telemetry.end(scheduler_output, self.clock())
        if step is not None:
            self.sundog.end_step(self.clock(), step)
        for request_id, drafted in scheduler_output.scheduled_spec_decode_tokens.items():
            sampled = model_runner_output.sampled_token_ids[model_runner_output.req_id_to_index[request_id]]
            self.sundog.verify_drafts(len(drafted), max(0, len(sampled) - 1))
        return super().update_from_output(scheduler_output, model_runner_output)

    def reset_prefix_cache(self, reset_running_requests: bool = False, reset_connector: bool = False) -> bool:
        if self.sundog.free_blocks is not None:
            self.sundog.free_blocks.release_all()
        return super().reset_prefix_cache(reset_running_requests, reset_connector)

    def _handle_blocked_waiting_request(self, request: EngineRequest) -> bool:
        if not super()._handle_blocked_waiting_request(request):
            return False
        if self.sundog.admits(request, self.running):
            return True
        # The best one waits, so that the others that are ranked do not take the room it waits for.
        self.waiting.hold_ranked()
        return False

    def _preempt_request(self, request: EngineRequest, timestamp: float, drop_stale_output: bool = False) -> None:
        self.sundog.preempt(request)
        super()._preempt_request(request, timestamp, drop_stale_output)

    def _free_blocks(self, request: EngineRequest) -> None:
        blocks = chain.from_iterable(self.kv_cache_manager.get_blocks(request.request_id).blocks)
        self.sundog.end(request, blocks, is_whole=str(request.get_finished_reason()) in WHOLE)
        super()._free_blocks(request)

    def _check_conflicts(self, policy: PolicySet) -> None:
        if self.scheduler_config.policy != "fcfs":
            raise ConfigError(
                f"--scheduling-policy {self.scheduler_config.policy} decides who is preempted, and so does sundog's"
                f" policy '{policy.name}'",
                hint=f"start vLLM with --scheduling-policy fcfs, or sundog with policy {OBSERVE}",
            )
        if policy.draft is not full_length and self.num_spec_tokens and self.scheduler_config.async_scheduling:
            log.warning("sundog: drafts keep their configured length, which async scheduling fixes a step ahead")

    def _may_preempt(self) -> bool:
        """Return whether the step to come could run out of free blocks."""
        num_wanted = len(self.running) + -(-self.max_num_scheduled_tokens // self.block_size)
        return self.kv_cache_manager.block_pool.get_num_free_blocks() < num_wanted

    def _note_step(self, output: SchedulerOutput) -> None:
        step = self.telemetry.begin(output, self.clock())
        for request_id, num_scheduled in output.num_scheduled_tokens.items():
            request = self.requests[request_id]
            step.add(num_scheduled, request.num_computed_tokens - num_scheduled, request.num_tokens)
        step.num_running = len(self.running)
        step.num_waiting = len(self.waiting)
        step.num_preempted = self.sundog.num_preempted
        step.num_free_blocks = self.kv_cache_manager.block_pool.get_num_free_blocks()
        if self.sundog.free_blocks is not None:
            step.num_kept_blocks = self.sundog.free_blocks.num_kept_blocks


class SundogScheduler(SundogMixin, Scheduler):
    """The scheduler for vLLM without async scheduling."""


class SundogAsyncScheduler(SundogMixin, AsyncScheduler):
    """The scheduler for vLLM with async scheduling."""
