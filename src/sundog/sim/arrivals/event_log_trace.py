"""The event log of a process as a trace: the requests to engines, each at the time at which it came.

Owns what of a log is an arrival. Dependencies between requests are not looked at; `replay` has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sundog.errors import InputError, StoreError
from sundog.host.event_log import read_log
from sundog.host.prefix_key import PREFIX_BLOCK_TOKENS
from sundog.sched.events import Event, RequestArrived, RequestCancelled, RequestFinished
from sundog.sim.arrivals.traced import MAX_TOKENS, RawProgram, TracedCall, TraceFormat

MEND = "give another log; a run's are whole"
GZIP = b"\x1f\x8b"
EVENT_LOG = TraceFormat("the event log of a run", PREFIX_BLOCK_TOKENS)


def is_event_log(path: Path) -> bool:
    """Return whether a file begins as an event log does; OSError where it cannot be read."""
    with path.open("rb") as file:
        return file.read(2) == GZIP


@dataclass(slots=True)
class _Request:
    """A request that came. `calls`: None until its end is known."""

    arrived: RequestArrived
    line: int
    calls: tuple[TracedCall, ...] | None = None


def logged_programs(path: Path) -> Iterator[RawProgram]:
    """Yield each request with a prompt; one that never ended well has no call. InputError for a damaged log. Memory
    holds what came since the oldest request that runs."""
    waiting: dict[str, _Request] = {}
    try:
        for line, event in _events(path):
            _take(path, event, line, waiting)
            yield from _ended(waiting)
    except StoreError as error:
        raise InputError(error.what, where=error.where, hint=error.hint) from error
    for request in waiting.values():
        yield RawProgram(request.arrived.time_s, request.calls or (), request.line)


def _events(path: Path) -> Iterator[tuple[int, Event]]:
    log = read_log(path)
    return iter(()) if log is None else enumerate(log[1], start=2)


def _take(path: Path, event: Event, line: int, waiting: dict[str, _Request]) -> None:
    match event:
        case RequestArrived(num_prompt_tokens=num_tokens) if num_tokens:
            waiting[event.request_id] = _Request(event, line)
        case RequestFinished() if (request := waiting.get(event.request_id)) is not None:
            arrived = request.arrived
            num_prompt_tokens = event.num_prompt_tokens or arrived.num_prompt_tokens
            num_output_tokens = max(1, event.num_output_tokens)
            if not 0 < num_prompt_tokens <= MAX_TOKENS or num_output_tokens > MAX_TOKENS:
                raise StoreError("a request has no number of tokens", where=f"{path}, line {line}", hint=MEND)
            request.calls = (TracedCall(num_prompt_tokens, num_output_tokens, arrived.prefix_key),)
        case RequestCancelled() if event.request_id in waiting:
            waiting[event.request_id].calls = ()


def _ended(waiting: dict[str, _Request]) -> Iterator[RawProgram]:
    """Yield the oldest requests while their ends are known."""
    while waiting:
        request_id, request = next(iter(waiting.items()))
        if request.calls is None:
            return
        del waiting[request_id]
        yield RawProgram(request.arrived.time_s, request.calls, request.line)
