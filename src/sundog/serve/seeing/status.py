"""The status of a server as one document: what happens now, and what has happened since its start.

Owns the form, which `/v1/status` gives as JSON and the live page shows. Never reads a host; status_of_host does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds that something took: in the mean of all since the start, and in the middle and at the end of the last."""

    num: int
    mean_s: float
    p50_s: float
    p95_s: float


@dataclass(frozen=True, slots=True)
class StepStatus:
    """The calls of one step."""

    name: str
    #: None where it is not known, as of a run of another process.
    num_running: int | None
    #: Calls that wait for a place at an engine or tool, or for their next attempt; None as above.
    num_waiting: int | None
    num_asked: int
    num_executed: int
    #: Answered without being made.
    num_reused: int
    #: Attempts; another one may have followed.
    num_failed: int

    @property
    def num_done(self) -> int:
        return self.num_executed + self.num_reused


@dataclass(frozen=True, slots=True)
class FlowStatus:
    """One flow."""

    name: str
    #: Live, or the state of a run: running, waits, unfinished, finished.
    state: str
    #: None where it is not known.
    num_rows_in_flight: int | None
    #: The most rows in flight of a served flow, the rows of a run; None where it is not known.
    max_rows: int | None
    #: Requests of a served flow, None for a run.
    num_requests: int | None
    #: By state, rows that have ended.
    rows_ended: Mapping[str, int]
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int
    #: Times from the acceptance of a request to its end; None while none has ended.
    requests: Latency | None
    steps: tuple[StepStatus, ...]
    #: The rows of each table that has a name, by state; only runs have such tables.
    tables: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def num_asked(self) -> int:
        return sum(step.num_asked for step in self.steps)

    @property
    def num_executed(self) -> int:
        return sum(step.num_executed for step in self.steps)

    @property
    def num_reused(self) -> int:
        return sum(step.num_reused for step in self.steps)


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One replica of an engine, or a tool."""

    name: str
    #: Serving, draining, down or lost.
    state: str
    num_running: int
    max_running: int
    #: Requests that wait here for a place.
    num_waiting: int
    #: Requests of other clients, as its server told last.
    num_foreign: int
    #: The used share of its KV blocks, None where nobody tells.
    kv_usage: float | None
    #: The share of prompt tokens that were found in its prefix cache, None where no answer tells.
    prefix_hit_rate: float | None


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One engine with its replicas, or a tool."""

    name: str
    #: Engine or tool.
    kind: str
    model: str
    #: Requests that wait for a place at any replica.
    num_waiting: int
    #: Calls that wait for their next attempt.
    num_delayed: int
    #: The attempts that have ended, by outcome.
    attempts: Mapping[str, int]
    #: Attempts that succeeded; None while there is none.
    calls: Latency | None
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int
    replicas: tuple[ReplicaStatus, ...]


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """Calls of models that came one by one."""

    num_in_flight: int
    max_in_flight: int
    #: Programs with a call in flight.
    num_programs: int
    #: Answered without being made.
    num_reused: int


@dataclass(frozen=True, slots=True)
class BatchesStatus:
    """The batches of `/v1/batches`, since the start of the server."""

    num_open: int
    num_lines_in_flight: int
    #: By outcome, lines that have ended.
    lines_ended: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SavingsStatus:
    """The work that was asked for and not done."""

    num_asked_calls: int
    #: Answered by a result, or by an equal call in flight.
    num_merged_calls: int
    num_prompt_tokens: int
    num_cached_tokens: int


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """The spending of one key or tenant, and its limits; None for no limit."""

    kind: str
    name: str
    spent_usd: float
    reserved_usd: float
    max_usd: float | None
    num_tokens: int
    num_reserved_tokens: int
    max_tokens: int | None


@dataclass(frozen=True, slots=True)
class FailureCount:
    """A kind of failure, and how often it came."""

    #: Row or attempt.
    what: str
    flow: str
    where: str
    error: str
    num: int


@dataclass(frozen=True, slots=True)
class FailureMessage:
    """One of the last failures."""

    at: str
    what: str
    flow: str
    where: str
    error: str
    #: Its beginning.
    message: str


@dataclass(frozen=True, slots=True)
class Status:
    """The status of a server."""

    version: str
    #: Serving, stopping, or the state of a run that is watched.
    state: str
    #: Since the start of the server; of a run, how long processes have worked on it.
    uptime_s: float
    flows: tuple[FlowStatus, ...]
    engines: tuple[EngineStatus, ...]
    savings: SavingsStatus
    accounts: tuple[AccountStatus, ...]
    failures: tuple[FailureCount, ...]
    #: The newest one first.
    last_failures: tuple[FailureMessage, ...]
    #: By file, why it could not be read again.
    reload_errors: Mapping[str, str]
    #: None for a run that is watched.
    gateway: GatewayStatus | None = None
    #: None for a run that is watched.
    batches: BatchesStatus | None = None
    #: The id of a run that is watched.
    run: str | None = None

    @property
    def num_rows_in_flight(self) -> int:
        return sum(flow.num_rows_in_flight or 0 for flow in self.flows)

    @property
    def num_rows_ended(self) -> int:
        return sum(sum(flow.rows_ended.values()) for flow in self.flows)

    @property
    def num_failures(self) -> int:
        return sum(one.num for one in self.failures)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return {"object": "status", **asdict(self)}
