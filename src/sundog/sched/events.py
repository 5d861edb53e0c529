"""The events that happen (past participles) and the actions that are to be done (imperatives).

Owns the vocabulary between the core and its hosts, and the event log's form. Never decides. Times are seconds on the
host's monotonic clock; they travel in events because the core has no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal, get_args

from sundog.sched.facts import NO_FACTS, CallFacts

Why = Literal["failed", "wait", "draining", "lost", "unloadable", "closed", "unknown_pool"]
"""The reason why a request is given up. `failed`: its last attempt did. `wait`: its server asks for a longer wait than
is allowed. `draining`: the host is to end soon. `lost`: no replica of its pool will come back. `unloadable`: no worker
can load its pool's engine. `closed`: its pool is. `unknown_pool`: the host never opened its pool."""


@dataclass(frozen=True, slots=True)
class ReplicaAdded:
    """A replica joined a pool."""

    time_s: float
    replica_id: str
    pool: str
    #: Requests at once, 0 where none starts before ReplicaLimited.
    max_concurrency: int
    #: Prompt plus output tokens it may hold, None for no limit.
    max_tokens_in_flight: int | None = None
    #: Prefix blocks its cache is believed to hold, 0 for no prefix cache.
    num_prefix_blocks: int = 0
    #: The worker that has loaded it, as asked; None for a replica that stays.
    worker_id: str | None = None
    #: A request also finds blocks that another one is still computing.
    shares_cold_prefixes: bool = False
    #: The processor that it shares with replicas of other pools, None where it shares none.
    shared_device: str | None = None


@dataclass(frozen=True, slots=True)
class PoolOpened:
    """Requests for this pool wait until it has a replica. ReplicaAdded and WorkerAdded open their pools too."""

    time_s: float
    pool: str


@dataclass(frozen=True, slots=True)
class PoolClosed:
    """The pool takes no further request, and what does not run there is given up."""

    time_s: float
    pool: str
    #: No replica came for too long; one that comes all the same opens the pool again.
    is_lost: bool = False

    @property
    def why(self) -> Why:
        """Return why its requests are given up."""
        return "lost" if self.is_lost else "closed"


@dataclass(frozen=True, slots=True)
class ReplicaLimited:
    """It takes so many requests at once from now on. What runs there beyond that ends by itself."""

    time_s: float
    replica_id: str
    #: 0 where none starts for a while.
    max_concurrency: int
    #: As in ReplicaAdded.
    max_tokens_in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class ReplicaDraining:
    """It takes no further request, and what waits there goes elsewhere. Once nothing runs there, the core asks for its
    end with Unload."""

    time_s: float
    replica_id: str


@dataclass(frozen=True, slots=True)
class ReplicaRemoved:
    """It is closed, and nothing ran there: what Unload asked for is done, or the host has taken it away by itself."""

    time_s: float
    replica_id: str


@dataclass(frozen=True, slots=True)
class ReplicaDown:
    """Its server does not answer: it takes no further request until ReplicaUp, and what waits there goes elsewhere.
    What ran there fails by itself. Its prefix cache is taken for empty."""

    time_s: float
    replica_id: str


@dataclass(frozen=True, slots=True)
class ReplicaUp:
    """Its server answers again."""

    time_s: float
    replica_id: str


@dataclass(frozen=True, slots=True)
class ReplicaLost:
    """It will not come back. When a pool has lost every replica, its requests are given up."""

    time_s: float
    replica_id: str


@dataclass(frozen=True, slots=True)
class ReplicaReported:
    """A replica's server told its state."""

    time_s: float
    replica_id: str
    #: Requests of all its clients that run.
    num_server_running: int
    #: Requests of all its clients that wait.
    num_server_waiting: int
    #: The used share of its KV blocks, in [0, 1].
    kv_usage: float
    #: Preemptions since its start.
    num_preemptions: int


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The load of a replica that Load asked for has failed."""

    time_s: float
    worker_id: str
    pool: str
    #: Another attempt makes sense.
    retryable: bool


@dataclass(frozen=True, slots=True)
class WorkerAdded:
    """A place for engines was added."""

    time_s: float
    worker_id: str
    #: Engines that it holds at once.
    max_resident: int
    #: The pools that it may load.
    pools: tuple[str, ...]
    #: By pool in the same order, the seconds that a load is expected to take.
    load_s: tuple[float, ...]
    #: By pool in the same order, the seconds of one replica that a call is expected to cost.
    call_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class WorkerPlanned:
    """A worker's plan was made, or made anew."""

    time_s: float
    worker_id: str
    flow: str
    #: The steps that have not drained, in order.
    steps: tuple[str, ...]
    #: In the same order, the pools that serve them.
    pools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepsOrdered:
    """The order was planned in which the calls of a flow's steps are to run where they wait for the same engine."""

    time_s: float
    flow: str
    #: The steps that have a place in the order; none where the plan prefers none.
    steps: tuple[str, ...]
    #: In the same order, the place of each, the first one first. Steps of one place run side by side.
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StepDrained:
    """No further call of this step will come: every row has passed it, or ended; where it comes again, every row of
    this window of rows."""

    time_s: float
    flow: str
    step: str
    #: Later rows bring calls of it again, after those of the other steps that the plan has.
    comes_again: bool = False


@dataclass(slots=True)
class RequestArrived:
    """A call wants to run."""

    #: Set when the core is told.
    time_s: float
    request_id: str
    pool: str
    #: Its workflow's number in the order in which its host began them.
    workflow_order: int = 0
    #: The number of steps of its workflow's plan before it, or of its calls that have ended.
    depth: int = 0
    num_prompt_tokens: int = 0
    #: Tokens that it will hold besides its prompt.
    num_expected_output_tokens: int = 0
    #: One cumulative hash for each full block of its prompt, outermost first.
    prefix_key: tuple[int, ...] = ()
    max_attempts: int = 1
    #: When the plan needs its result, in seconds from the plan's begin.
    need_s: float = 0.0
    #: True where its workflow will ask again in this pool as soon as it has ended.
    has_successor: bool = False
    #: True where other calls arrive at the same moment; the last of them starts what may start. Set when the core is
    #: told.
    more_follow: bool = False
    #: Longest wait before another attempt that a server may ask for.
    max_retry_wait_s: float = inf
    #: Name of the row's run, or of the program, whose call it is; "" for a request on its own.
    workflow_id: str = ""
    #: The facts that its owner tells of its step's calls.
    facts: CallFacts = NO_FACTS


@dataclass(frozen=True, slots=True)
class PrefillEnded:
    """The first output token is there, so the prompt's KV blocks are."""

    time_s: float
    request_id: str


@dataclass(slots=True)
class RequestFinished:
    """An attempt succeeded."""

    time_s: float
    request_id: str
    num_prompt_tokens: int = 0
    #: Prompt tokens that came from the replica's prefix cache.
    num_cached_tokens: int = 0
    num_output_tokens: int = 0
    #: Calls that this one request was made for.
    num_calls: int = 1


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """One attempt failed."""

    time_s: float
    request_id: str
    #: Another one makes sense.
    retryable: bool
    #: No attempt makes sense before that many seconds, as the server says; it may be infinite.
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class RequestCancelled:
    """Nobody waits for it any more."""

    time_s: float
    request_id: str


@dataclass(frozen=True, slots=True)
class WorkflowLeft:
    """A workflow between two calls needs this pool no more: its next call was answered without it, or it has ended."""

    time_s: float
    pool: str
    workflow_id: str


@dataclass(frozen=True, slots=True)
class WorkflowEnded:
    """A workflow will ask no more, of no pool. Its last call said so itself where its facts did."""

    time_s: float
    workflow_id: str


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time asked for with WakeAt has come."""

    time_s: float


@dataclass(frozen=True, slots=True)
class Draining:
    """The run is to end soon: what waits for another attempt is given up, now and from now on."""

    time_s: float


Event = (
    PoolOpened
    | PoolClosed
    | ReplicaAdded
    | ReplicaLimited
    | ReplicaDraining
    | ReplicaRemoved
    | ReplicaDown
    | ReplicaUp
    | ReplicaLost
    | ReplicaReported
    | LoadFailed
    | WorkerAdded
    | WorkerPlanned
    | StepsOrdered
    | StepDrained
    | RequestArrived
    | PrefillEnded
    | RequestFinished
    | RequestFailed
    | RequestCancelled
    | WorkflowLeft
    | WorkflowEnded
    | TimerFired
    | Draining
)


@dataclass(slots=True)
class Submit:
    """Start an attempt on a replica."""

    request_id: str
    replica_id: str
    #: Its number, from 1.
    attempt: int
    #: The end of its prefill decides when others start, so it is to be reported when it comes.
    needs_first_token: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """There is no further attempt: tell whoever waits."""

    request_id: str
    num_attempts: int
    why: Why = "failed"


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send TimerFired at that time."""

    time_s: float
    #: The request whose next attempt it is, None for anything else.
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop a running attempt; its end is not reported."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Load:
    """Start a replica of `pool` on a worker, and report ReplicaAdded or LoadFailed."""

    worker_id: str
    pool: str


@dataclass(frozen=True, slots=True)
class Unload:
    """Close an idle replica, and report ReplicaRemoved."""

    replica_id: str


Action = Submit | GiveUp | WakeAt | Abort | Load | Unload
EVENT_TYPES: dict[str, type] = {kind.__name__: kind for kind in get_args(Event)}
