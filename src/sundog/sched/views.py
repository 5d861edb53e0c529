"""What a policy may see: requests, workflows, blocks, replicas and the moment. Read-only for policies, written by the
host's books alone: the core's for a batch, the plugin's inside vLLM.

Owns the books' records. Never decides. Attribute names are vLLM's where the meaning is the same. All times of one host
are on one clock of its own. What a host does not know keeps its default, and no policy takes a default for knowledge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf

from sundog.sched.facts import NO_FACTS, CallFacts
from sundog.sched.histories import SampleHistory
from sundog.sched.kv_ledger import KVLedger
from sundog.sched.prefix_index import PrefixIndex


@dataclass(slots=True)
class RequestView:
    """One request from its arrival to its end. After each field stands who fills it: `both` the core and the plugin,
    else the one of them; the other leaves it at its default."""

    request_id: str  #: both
    pool: str  #: core
    #: both; seconds on the host's clock
    arrival_time: float = 0.0
    #: both; its workflow's number in the order in which the host began them
    row_index: int = 0
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
    """One row's run, or one agent's program: the calls that belong together, from its first call to its last.

    `num_turns`: calls that have ended. `num_attained_tokens`: prompt tokens computed for it and output tokens produced,
    so far. `tool`: what runs between two of its calls, "" while none does; `tool_began_s`: since when.
    `num_held_tokens`: KV tokens that its next call will find, as long as they are kept. `retained_until_s`: until when
    they are, as last decided. `num_remaining_steps` (None where nobody told) and `num_remaining_tokens` (prompt and
    output, 0 where nobody told): of calls that have not arrived."""

    workflow_id: str
    arrival_s: float
    tenant: str = ""
    num_turns: int = 0
    num_attained_tokens: int = 0
    tool: str = ""
    tool_began_s: float | None = None
    num_held_tokens: int = 0
    retained_until_s: float = 0.0
    steps_to_next_use: float | None = None
    num_remaining_steps: float | None = None
    num_remaining_tokens: float = 0.0
    deadline_s: float | None = None


@dataclass(slots=True)
class BlockView:
    """KV blocks that no running request uses and that one decision evicts: a block, or a request's blocks of one depth.

    `workflow_id`: who used them last. `depth`: blocks of the prompt before it. `steps_to_next_use`: the least over
    those whose prompts pass through it, None where nobody told. `retained_until_s`: as its workflow's, the latest."""

    last_used_s: float
    depth: int = 0
    workflow_id: str = ""
    prefix_group: str = ""
    steps_to_next_use: float | None = None
    retained_until_s: float = 0.0


@dataclass(slots=True)
class StepView:
    """An engine step that is about to decode for `num_requests` requests, with drafts to verify.

    `acceptance_rate`: of draft tokens, measured, in [0, 1]; None while nothing is. `max_draft_tokens`: for each
    request. `step_s`: predicted seconds of the step and its drafting, when each request verifies so many of them."""

    num_requests: int
    max_draft_tokens: int
    step_s: Callable[[int], float]
    acceptance_rate: float | None = None


@dataclass(slots=True)
class ReplicaView:
    """One replica. `running`: KV tokens of what runs, at its end. `requests`: what runs, by id, where the host sees it
    progress. `num_retained_tokens`: KV tokens kept for workflows between two calls. `block_tokens`: of a KV block.
    `num_waiting`: requests that wait for a slot here; `num_parked`: that wait until another has computed their prefix
    here; `num_queued_tokens`: KV tokens that both will add; `num_open_workflows`: workflows whose last call ran here,
    and whose next is about to come; `num_routed`: requests ever sent here.
    `worker_id`: where it is loaded, None for one that stays. `is_draining`: it takes no further request; `is_down`: nor
    does it until its server answers again, which it never will when it `is_lost`.
    As its server told last: `num_foreign`, requests of other clients; `kv_usage`, the used share of its KV blocks;
    `num_preemptions` since its start.
    `idle_since_s`: on a worker, since when nothing runs here and nothing waits for it."""

    replica_id: str
    pool: str
    max_concurrency: int = 1
    max_tokens_in_flight: int | None = None
    num_running: int = 0
    num_waiting: int = 0
    num_parked: int = 0
    num_queued_tokens: int = 0
    num_open_workflows: int = 0
    num_routed: int = 0
    prefixes: PrefixIndex = field(default_factory=lambda: PrefixIndex(0))
    shares_cold_prefixes: bool = False
    running: KVLedger = field(default_factory=KVLedger)
    requests: dict[str, RequestView] = field(default_factory=dict)
    num_retained_tokens: int = 0
    block_tokens: int = 1
    worker_id: str | None = None
    is_draining: bool = False
    is_down: bool = False
    is_lost: bool = False
    num_foreign: int = 0
    kv_usage: float = 0.0
    num_preemptions: int = 0
    idle_since_s: float | None = None

    @property
    def is_serving(self) -> bool:
        """Return whether it takes requests."""
        return not (self.is_draining or self.is_down)

    @property
    def load(self) -> float:
        """The share of its slots, or of its KV tokens where those are scarcer, that requests have or wait for."""
        num_requests = self.num_running + self.num_waiting + self.num_parked + self.num_foreign
        slots = num_requests / self.max_concurrency
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
    """One engine that workers load. `load_s`: what a load takes; `call_s`: seconds of one replica for one call, at the
    concurrency reached; both measured once there is something to measure.

    `num_serving`: replicas that take requests, or will when loaded. `num_open_steps`: steps that have sent a call, and
    may send more. `lull_since_s`: since when no call waits. `oldest_arrival_s`: of the call that is next;
    `last_arrival_s`: of the call that came last, infinite before the first.
    `busy_s`: seconds that replicas had something to do, summed. `num_loads` so far.
    """

    pool: str
    load_s: float
    call_s: float
    num_waiting: int = 0
    num_serving: int = 0
    num_open_steps: int = 0
    lull_since_s: float | None = None
    oldest_arrival_s: float | None = None
    last_arrival_s: float = inf
    busy_s: float = 0.0
    num_loads: int = 0

    @property
    def waiting_s(self) -> float:
        """Seconds of one replica for the calls that wait."""
        return self.num_waiting * self.call_s


@dataclass(slots=True)
class WorkerView:
    """A place for at most `max_resident` engines at once, out of `pools`.

    `residents`: by pool. `planned`: what its plan needs from now on, soonest first, each engine once. `coming`: the
    engine that is loaded, or will be when `leaving` has gone. `not_before_s`: by pool, after a load that failed.
    `wake_s`: until when the last answer was to keep things.
    """

    worker_id: str
    pools: tuple[str, ...]
    max_resident: int
    residents: dict[str, ReplicaView] = field(default_factory=dict)
    planned: tuple[str, ...] = ()
    coming: str | None = None
    is_loading: bool = False
    load_began_s: float = 0.0
    leaving: ReplicaView | None = None
    is_unloading: bool = False
    num_failures: dict[str, int] = field(default_factory=dict)
    not_before_s: dict[str, float] = field(default_factory=dict)
    wake_s: float = 0.0

    def engines(self) -> tuple[ReplicaView, ...]:
        """All that it holds, the one that leaves too."""
        leaving = () if self.leaving is None else (self.leaving,)
        return (*self.residents.values(), *leaving)


@dataclass(slots=True)
class DeviceView:
    """A processor that the engines of several pools share. By pool: `num_running`, requests of all its replicas;
    `num_waiting`, for a slot or a prefix, 0 while no replica serves. `sliced`: the pool whose requests start, None
    before the first."""

    num_running: dict[str, int] = field(default_factory=dict)
    num_waiting: dict[str, int] = field(default_factory=dict)
    sliced: str | None = None


@dataclass(slots=True)
class SchedView:
    """The moment: `time_s` of the event being handled, `num_waiting` in the pool at hand. `quiet_since_s`: since when
    nothing runs, loads or waits for a time, so that no call can come but from what is being committed.
    `num_seen_blocks`: different prefix blocks that came to this pool; `num_cache_blocks`: of its smallest replica.
    `least_load`: of its replicas, that of the emptiest. `num_devices`: on which engines with a prefix cache compute;
    pools that share one count once.

    What the host has measured: `prefill_token_s` and `decode_token_s`, seconds of a request for each token of its
    prompt and of its answer, at the load reached; `output_lengths` in tokens, by (node, model); `tool_times_s` by tool,
    those of all tools together under ""; `requeue_s`, the mean wait of calls that came back and found their KV blocks
    gone; `turns_correlation`, of turns done with turns left in programs that have ended, -1 until known.
    `virtual_tokens`: service by tenant, as `sched.fairness` counts it. `workflows`: those that are under way, by id."""

    time_s: float = 0.0
    num_waiting: int = 0
    num_seen_blocks: int = 0
    num_cache_blocks: int = 0
    least_load: float = 0.0
    num_devices: int = 1
    quiet_since_s: float | None = None
    prefill_token_s: float = 0.0
    decode_token_s: float = 0.0
    output_lengths: Mapping[tuple[str, str], SampleHistory] = field(default_factory=dict)
    tool_times_s: Mapping[str, SampleHistory] = field(default_factory=dict)
    requeue_s: float = 0.0
    turns_correlation: float = -1.0
    virtual_tokens: Mapping[str, float] = field(default_factory=dict)
    workflows: Mapping[str, WorkflowView] = field(default_factory=dict)

    @property
    def is_roomy(self) -> bool:
        """Return whether the cache has room for twice the blocks ever seen, so that nothing needed is evicted: answers
        and what prompts do not share pass through it too."""
        return 0 < 2 * self.num_seen_blocks <= self.num_cache_blocks
