"""The views of policies: requests, workflows, blocks, replicas and the moment. Read-only for policies, written by the
host's books alone: the core's for a batch, the plugin's inside vLLM.

Owns the books' records. Never decides. Attribute names are vLLM's where the meaning is the same. All times of one host
are on one clock of its own. What a host does not know keeps its default, and no policy takes a default for knowledge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf

from sundog.sched.books.kv_ledger import KVLedger
from sundog.sched.books.prefix_index import PrefixIndex
from sundog.sched.books.programs.contexts import Contexts
from sundog.sched.books.samples import RecentSamples
from sundog.sched.facts import NO_FACTS, CallFacts


@dataclass(slots=True)
class RequestView:
    """One request from its arrival to its end. After each field stands who fills it: `both` the core and the plugin,
    else the one of them; the other leaves it at its default."""

    request_id: str  #: both
    pool: str  #: core
    #: both; seconds on the host's clock
    arrival_time: float = 0.0
    #: both; its workflow's number in the order in which the host began them
    workflow_order: int = 0
    #: both; steps of its workflow's plan before it, or calls of its workflow that have ended
    depth: int = 0
    num_prompt_tokens: int = 0  #: both
    #: both; as told, or the bound of its answer
    num_expected_output_tokens: int = 0
    #: both; one cumulative hash for each full block of its prompt
    prefix_key: tuple[int, ...] = ()
    max_attempts: int = 1  #: core
    #: core; the longest wait before another attempt that a server may ask for
    max_retry_wait_s: float = inf
    num_attempts: int = 0  #: core
    #: core; where it runs, None while it does not
    replica_id: str | None = None
    #: core; where an attempt of it failed
    failed_replicas: tuple[str, ...] = ()
    #: core; the replica at which another request computes its prefix, None while it does not wait for that
    parked_at: str | None = None
    #: core; where it waits aside, when it is asked for again in any case
    aside_until_s: float = inf
    #: core; KV tokens that it will add where it is parked or waits
    num_queued_tokens: int = 0
    #: core; when the plan needs its result, in seconds from the plan's begin
    need_s: float = 0.0
    #: both; `prefix_key` in numbers that grow as new prefixes come
    prefix_order: tuple[int, ...] = ()
    #: both; True where its workflow will ask again in this pool as soon as it has ended
    has_successor: bool = False
    #: both; True where a call of its workflow came before
    is_successor: bool = False
    #: core; leading blocks that it shares with the call before
    num_inherited_blocks: int = 0
    #: plugin; the bound of its answer where `num_expected_output_tokens` is less, else 0
    max_tokens: int = 0
    #: plugin; tokens of prompt and output whose KV is there
    num_computed_tokens: int = 0
    #: plugin; produced so far
    num_output_tokens: int = 0
    num_preemptions: int = 0  #: plugin
    #: core; prompt tokens that its workflow and tenant were charged when it started
    num_charged_tokens: int = 0
    #: both; "" for a request on its own
    workflow_id: str = ""
    #: both; its step among those of all flows
    node: str = ""
    #: both; the pool, or the model that the engine serves
    model: str = ""
    #: both; on the clock of `arrival_time`, None where nobody told
    deadline_s: float | None = None
    #: both; what its owner knows of it
    facts: CallFacts = NO_FACTS

    @property
    def max_output_tokens(self) -> int:
        """Its answer is never longer."""
        return max(self.max_tokens, self.num_expected_output_tokens)

    @property
    def num_prefill_tokens(self) -> int:
        """Tokens of its prompt that are still to be computed."""
        return max(0, self.num_prompt_tokens - self.num_computed_tokens)

    @property
    def num_decode_tokens(self) -> int:
        """Tokens of its answer that are still expected; one at least, as it has not ended."""
        return max(1, self.num_expected_output_tokens - self.num_output_tokens)


@dataclass(slots=True)
class WorkflowView:
    """One row's run, or one agent's program: the calls that belong together, from its first call to its last. The book
    of workflows fills it, for the core and the plugin alike."""

    workflow_id: str
    #: Arrival of its first call.
    arrival_s: float
    tenant: str = ""
    #: Calls that have ended.
    num_turns: int = 0
    #: Prompt tokens computed for it and output tokens produced, so far.
    num_attained_tokens: int = 0
    #: Name of what runs between two of its calls, "" while nothing does.
    tool: str = ""
    #: Since when that runs.
    tool_began_s: float | None = None
    #: Seconds that it takes by what was told, None where nobody told.
    expected_pause_s: float | None = None
    #: KV tokens that its next call will find, as long as they are kept.
    num_held_tokens: int = 0
    #: Until when they are kept, as last decided.
    retained_until_s: float = 0.0
    #: Calls until its last prompt's KV blocks are read again, None where nobody told.
    steps_to_next_use: float | None = None
    #: Calls that have not arrived, None where nobody told.
    num_remaining_steps: float | None = None
    #: Prompt and output tokens of calls that have not arrived, 0 where nobody told.
    num_remaining_tokens: float = 0.0
    #: When it must have ended, None where nobody told.
    deadline_s: float | None = None
    #: Its requests that wait or run.
    num_open: int = 0
    #: When its last call ended, None before the first has.
    last_end_s: float | None = None
    #: By pool, where its last call started; inside an engine there is none.
    replica_ids: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class BlockView:
    """KV blocks that no running request uses and that one decision evicts: a block, or a request's blocks of one depth.
    The plugin fills it."""

    last_used_s: float
    #: Blocks of the prompt before it.
    depth: int = 0
    #: The workflow that used them last.
    workflow_id: str = ""
    prefix_group: str = ""
    #: The least over those whose prompts pass through it, None where nobody told.
    steps_to_next_use: float | None = None
    #: The latest of its workflows'.
    retained_until_s: float = 0.0


@dataclass(slots=True)
class EngineStepView:
    """An engine step that is about to decode, with drafts to verify. The plugin fills it."""

    num_requests: int
    #: For each request.
    max_draft_tokens: int
    #: Predicted seconds of the step and its drafting, when each request verifies so many draft tokens.
    step_s: Callable[[int], float]
    #: Share of draft tokens accepted, in [0, 1]; None while nothing is measured.
    acceptance_rate: float | None = None


@dataclass(slots=True)
class ReplicaView:
    """One replica. After each field stands who fills it, as in RequestView."""

    replica_id: str  #: both
    pool: str  #: core
    max_concurrency: int = 1  #: both
    #: both; KV tokens of prompts and answers that it may hold, None for no limit
    max_tokens_in_flight: int | None = None
    num_running: int = 0  #: both
    #: both; requests that wait for a slot here
    num_waiting: int = 0
    #: core; requests that wait here until another one has computed their prefix
    num_parked: int = 0
    #: core; KV tokens that those that wait and are parked will add
    num_queued_tokens: int = 0
    #: both; workflows whose last call ran here, and whose next is about to come
    num_open_workflows: int = 0
    #: both; requests ever sent here
    num_routed: int = 0
    prefixes: PrefixIndex = field(default_factory=lambda: PrefixIndex(0))  #: both
    #: both; True where a request also finds blocks that another one is still computing
    shares_cold_prefixes: bool = False
    #: both; KV tokens of what runs, at its end
    running: KVLedger = field(default_factory=KVLedger)
    #: plugin; what runs, by id
    requests: dict[str, RequestView] = field(default_factory=dict)
    #: both; KV tokens kept for workflows between two calls
    num_retained_tokens: int = 0
    #: core; of the programs whose last call ended here
    contexts: Contexts = field(default_factory=Contexts)
    #: plugin; tokens of a KV block
    block_tokens: int = 1
    #: core; the worker that has loaded it, None for one that stays
    worker_id: str | None = None
    #: core; True where it takes no further request and goes when its last one has ended
    is_draining: bool = False
    #: core; True until its server answers again
    is_down: bool = False
    #: core; True where its server never will
    is_lost: bool = False
    #: core; requests of other clients, as its server told last
    num_foreign: int = 0
    #: core; used share of its KV blocks, as its server told last
    kv_usage: float = 0.0
    #: core; since its start, as its server told last
    num_preemptions: int = 0
    #: core; on a worker, the start of the time in which nothing runs here and nothing waits for it; None while busy
    idle_since_s: float | None = None

    @property
    def is_serving(self) -> bool:
        """Return whether it takes requests."""
        return not (self.is_draining or self.is_down) and self.max_concurrency > 0

    @property
    def num_free(self) -> int:
        """Slots that are free; none where a lower limit than before is not reached yet."""
        return max(0, self.max_concurrency - self.num_running)

    @property
    def load(self) -> float:
        """The share of its slots, or of its KV tokens where those are scarcer, that requests have or wait for."""
        num_requests = self.num_running + self.num_waiting + self.num_parked + self.num_foreign
        # One that may take none for a while is as full as one that takes one at a time.
        slots = num_requests / max(1, self.max_concurrency)
        if self.max_tokens_in_flight is None:
            return slots
        return max(slots, (self.running.num_tokens + self.num_queued_tokens) / self.max_tokens_in_flight)

    def queue(self, request: RequestView) -> None:
        """It waits here, for a slot or for a prefix, for what it does not share with what runs."""
        request.num_queued_tokens = self.running.num_further_tokens(
            request.prefix_key, request.num_prompt_tokens, request.num_expected_output_tokens
        )
        self.num_queued_tokens += request.num_queued_tokens

    def unqueue(self, request: RequestView) -> None:
        self.num_queued_tokens -= request.num_queued_tokens
        request.num_queued_tokens = 0


@dataclass(slots=True)
class PoolView:
    """One engine that workers load. The core fills it; `load_s` and `call_s` are expected first, and measured later."""

    pool: str
    #: Seconds of a load.
    load_s: float
    #: Seconds of one replica for one call, at the concurrency reached.
    call_s: float
    #: Calls that wait for a slot or a prefix.
    num_waiting: int = 0
    #: Replicas that take requests, or will when they are loaded.
    num_serving: int = 0
    #: Workers whose plans need it from now on.
    num_planned: int = 0
    #: Steps that have sent a call, and may send more.
    num_open_steps: int = 0
    #: Since when no call waits, None while one does.
    lull_since_s: float | None = None
    #: Arrival of the call that is next.
    oldest_arrival_s: float | None = None
    #: Arrival of the call that came last, infinite before the first.
    last_arrival_s: float = inf
    #: Seconds that replicas had something to do, summed.
    busy_s: float = 0.0
    num_loads: int = 0

    @property
    def waiting_s(self) -> float:
        """Seconds of one replica for the calls that wait."""
        return self.num_waiting * self.call_s


@dataclass(slots=True)
class WorkerView:
    """A place for engines, which come and go. The core fills it."""

    worker_id: str
    #: Pools that it may load.
    pools: tuple[str, ...]
    #: Engines at once.
    max_resident: int
    #: By pool.
    residents: dict[str, ReplicaView] = field(default_factory=dict)
    #: Pools that its plan needs from now on, soonest first, each engine once.
    planned: tuple[str, ...] = ()
    #: The engine that is loaded, or will be when `leaving` has gone.
    coming: str | None = None
    is_loading: bool = False
    load_began_s: float = 0.0
    leaving: ReplicaView | None = None
    is_unloading: bool = False
    #: By pool, loads that failed one after another.
    num_failures: dict[str, int] = field(default_factory=dict)
    #: By pool, when it may be loaded again after a load that failed.
    not_before_s: dict[str, float] = field(default_factory=dict)
    #: Until when the last answer was to keep things.
    wake_s: float = 0.0

    def engines(self) -> tuple[ReplicaView, ...]:
        """Return all that it holds, the one that leaves too."""
        leaving = () if self.leaving is None else (self.leaving,)
        return (*self.residents.values(), *leaving)


@dataclass(slots=True)
class DeviceView:
    """A processor that the engines of several pools share. The core fills it."""

    #: By pool, requests of all its replicas.
    num_running: dict[str, int] = field(default_factory=dict)
    #: By pool, requests that wait for a slot or a prefix; 0 while no replica serves.
    num_waiting: dict[str, int] = field(default_factory=dict)
    #: The pool whose requests start, None before the first.
    sliced: str | None = None


@dataclass(slots=True)
class SchedView:
    """The moment, and what the host has measured. After each field stands who fills it, as in RequestView."""

    #: both; of the event, or the engine's step, that is being handled
    time_s: float = 0.0
    #: both; in the queue of the pool at hand: those that wait, and for which no replica is chosen
    num_queued: int = 0
    #: core; of the pool at hand, told to those of the tier `batch`
    first_waiting: RequestView | None = None
    #: both; different prefix blocks that came to the pool at hand
    num_seen_blocks: int = 0
    #: both; blocks of the pool's smallest cache
    num_cache_blocks: int = 0
    #: both; starts in the pool at hand since the last one of the tiers `flex` and `batch`
    num_starts_above: int = 0
    #: core; load of the emptiest of the pool's replicas
    least_load: float = 0.0
    #: core; devices on which engines with a prefix cache compute; pools that share one count once
    num_devices: int = 1
    #: core; since when nothing runs, loads or waits for a time, so that no call can come but from what is being
    #: committed
    quiet_since_s: float | None = None
    #: core; by step, its place in the order of its flow's plan, from 0; a plan that orders no steps has none here
    step_places: Mapping[str, int] = field(default_factory=dict)
    #: plugin; seconds of a request for each token of its prompt, at the load reached
    prefill_token_s: float = 0.0
    #: plugin; the same for each token of its answer
    decode_token_s: float = 0.0
    #: both; lengths of answers in tokens, by (node, model)
    output_lengths: Mapping[tuple[str, str], RecentSamples] = field(default_factory=dict)
    #: both; seconds by tool, those of all tools together under ""
    tool_times_s: Mapping[str, RecentSamples] = field(default_factory=dict)
    #: both; mean wait of calls that came back and found their KV blocks gone
    requeue_s: float = 0.0
    #: both; of turns done with turns left in programs that have ended, -1 until known
    turns_correlation: float = -1.0
    #: both; service by tenant, as `sched.books.fairness` counts it
    virtual_tokens: Mapping[str, float] = field(default_factory=dict)
    #: both; those that are under way, by id
    workflows: Mapping[str, WorkflowView] = field(default_factory=dict)
    #: both; by id, when the first call of a workflow came, also of those whose last turn on some engine has ended
    program_arrivals_s: Mapping[str, float] = field(default_factory=dict)

    def program_arrival_s(self, request: RequestView) -> float:
        """Return when its program arrived, or the one at the root of its program's parents."""
        for workflow_id in (request.facts.root_program, request.workflow_id):
            workflow = self.workflows.get(workflow_id)
            arrival_s = self.program_arrivals_s.get(workflow_id) if workflow is None else workflow.arrival_s
            if arrival_s is not None:
                return arrival_s
        return request.arrival_time

    @property
    def keeps_turns(self) -> bool:
        """Return whether some plan orders steps, so that engines take turns as it says."""
        return bool(self.step_places)

    @property
    def is_roomy(self) -> bool:
        """Return whether the cache has room for twice the blocks ever seen, so that nothing needed is evicted: answers
        and what prompts do not share pass through it too."""
        return 0 < 2 * self.num_seen_blocks <= self.num_cache_blocks
