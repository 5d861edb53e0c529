"""The contents of a run's event logs: its calls with their times and tokens, its replicas and loads.

Owns what of the logs counts. Logs of one run follow each other as if it had never been interrupted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sundog.errors import ConfigError
from sundog.host.event_log import read_log
from sundog.host.log_replay import AttemptEnded, LoadEnded, LogReplay, LogStep
from sundog.sched.events import (
    Event,
    ReplicaAdded,
    RequestArrived,
    RequestFailed,
    RequestFinished,
    StepsOrdered,
    WorkerAdded,
    WorkerPlanned,
)
from sundog.sched.policy import POLICIES


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """A call that was answered; times in seconds since the run's first log began."""

    arrived: RequestArrived
    finished: RequestFinished
    arrived_s: float
    #: Its last attempt started.
    begin_s: float
    end_s: float
    #: Its place among the arrivals of the run: many come at one moment.
    number: int
    #: Its last attempt had its first token; None where nobody waited for that.
    first_token_s: float | None = None

    @property
    def row(self) -> int:
        return self.arrived.workflow_order

    @property
    def is_gathered(self) -> bool:
        """Return whether it answered the calls of several rows."""
        return self.finished.num_calls > 1

    @property
    def path(self) -> str:
        """Its place in the row's plan, as `loop.2/step[0]`."""
        return path_of(self.arrived.request_id)


@dataclass(slots=True)
class LoggedPlacement:
    """The first plan of a run on workers: where its steps were to run."""

    #: By worker, its steps in order, each with the pool that serves it.
    orders: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    #: By step, its place in the order of calls.
    places: dict[str, int] = field(default_factory=dict)
    #: By step, when its results were needed.
    needs_s: dict[str, float] = field(default_factory=dict)
    #: By pool, what a load was expected to take.
    load_s: dict[str, float] = field(default_factory=dict)
    #: How often a worker's plan was made anew.
    num_anew: int = 0


@dataclass(slots=True)
class LoggedRun:
    """All that the logs of one run say."""

    #: The policy set of the last log.
    policy: str = ""
    #: Rows that were worked on at once, at most, by the last log.
    max_rows_in_flight: int = 1
    #: In the order in which they ended.
    calls: list[LoggedCall] = field(default_factory=list)
    #: By pool, the replicas of the last log that no worker loads.
    replicas: dict[str, dict[str, ReplicaAdded]] = field(default_factory=dict)
    #: By pool, one of those that workers loaded.
    loaded: dict[str, ReplicaAdded] = field(default_factory=dict)
    #: By pool on workers, what each load took.
    loads_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    #: The first log's; without orders where no worker had any.
    placement: LoggedPlacement = field(default_factory=LoggedPlacement)
    num_failed_attempts: int = 0
    #: Attempts that were cancelled, or running when a process was killed.
    num_cut_off: int = 0
    #: When the last log ends.
    end_s: float = 0.0


def path_of(request_id: str) -> str:
    """Return the path of the call, or of the first of the gathered calls, that a request is for.

    >>> path_of("7/loop.2/step[0] gathered")
    'loop.2/step[0]'
    """
    return request_id.partition("/")[2].partition(" ")[0]


def step_of(path: str) -> str:
    """Return the step of a call's path.

    >>> step_of("loop[1].2/ask[0]")
    'ask'
    """
    return path.rpartition("/")[2].partition("[")[0]


_Arrivals = dict[str, tuple[float, int]]
"""By request, when it came and its number."""


def read_run(logs: Iterable[Path]) -> LoggedRun:
    """Return what the logs of one run say, oldest first. StoreError for a damaged one, ConfigError for a policy set
    that is not here, and where the logs tell nothing."""
    run, num_arrivals, paths = LoggedRun(), 0, list(logs)
    for path in paths:
        log = read_log(path)
        if log is None:
            continue
        header, events = log
        run.policy, run.max_rows_in_flight = header.policy, header.max_rows_in_flight
        run.replicas.clear()
        replay, begin_s = LogReplay(POLICIES.get(header.policy)), run.end_s
        arrivals: _Arrivals = {}
        for event in events:
            _note(run, event)
            if isinstance(event, RequestArrived):
                num_arrivals += 1
                arrivals[event.request_id] = event.time_s, num_arrivals
            for step in replay.handle(event):
                _take(run, step, begin_s, arrivals)
        run.num_cut_off += sum(1 for _ in replay.cut_off())
        run.end_s = begin_s + replay.last_s
    if not run.policy:
        raise ConfigError(
            "the run's logs tell nothing",
            where=", ".join(map(str, paths)),
            hint="its process was killed before anything began, or the files are damaged; give another run",
        )
    return run


def _note(run: LoggedRun, event: Event) -> None:
    placement = run.placement
    match event:
        case ReplicaAdded(worker_id=None):
            run.replicas.setdefault(event.pool, {})[event.replica_id] = event
        case ReplicaAdded():
            run.loaded[event.pool] = event
        case WorkerAdded():
            for pool, load_s in zip(event.pools, event.load_s, strict=True):
                placement.load_s.setdefault(pool, load_s)
        case WorkerPlanned() if event.worker_id not in placement.orders:
            placement.orders[event.worker_id] = list(zip(event.steps, event.pools, strict=True))
        case WorkerPlanned():
            placement.num_anew += 1
        case StepsOrdered() if not placement.orders:
            placement.places |= zip(event.steps, event.places, strict=True)
        case RequestArrived(need_s=need_s) if need_s:
            placement.needs_s.setdefault(step_of(path_of(event.request_id)), need_s)


def _take(run: LoggedRun, step: LogStep, begin_s: float, arrivals: _Arrivals) -> None:
    match step:
        case LoadEnded(is_loaded=True):
            run.loads_s[step.pool].append(step.end_s - step.begin_s)
        case AttemptEnded(event=RequestFinished() as finished):
            arrived = step.request.arrived
            arrived_s, number = arrivals.pop(arrived.request_id)
            times_s = begin_s + arrived_s, begin_s + step.attempt.begin_s, begin_s + step.end_s
            token_s = step.attempt.prefill_end_s
            first_token_s = None if token_s is None else begin_s + token_s
            run.calls.append(LoggedCall(arrived, finished, *times_s, number, first_token_s))
        case AttemptEnded(event=RequestFailed()):
            run.num_failed_attempts += 1
        case AttemptEnded():
            run.num_cut_off += 1
