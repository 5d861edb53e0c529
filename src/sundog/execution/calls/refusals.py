"""Why a call of a batch gets no further attempt, in the run's words.

Owns what is a row's failure, what the run's, and what a stop. Never decides that there is no attempt; the core does.
"""

from __future__ import annotations

from sundog.errors import CallError, RunError, RunStopped
from sundog.host.driver import GivenUp, LoadingStopped
from sundog.host.waits import span
from sundog.ir.pool_names import engine_of


def refusal(given_up: GivenUp, pool: str, max_retry_wait_s: float) -> Exception:
    """Return what the call raises. An engine that is lost, or cannot be loaded, is the run's failure: no row is to
    blame."""
    engine = engine_of(pool)
    match given_up.why:
        case "draining":
            # What failed may pass: the row is run again later, with all its attempts.
            return RunStopped("the run is stopping")
        case "lost":
            return RunError(f"no replica of the engine '{engine}' is left: {given_up.cause}")
        case "unloadable" if isinstance(given_up.cause, LoadingStopped):
            return RunStopped("the run is stopping")
        case "unloadable" if isinstance(given_up.cause, CallError):
            return RunError(f"the engine '{engine}' cannot be loaded: {given_up.cause}")
        case "unloadable" if given_up.cause is not None:
            return given_up.cause
    assert given_up.failure is not None, f"no request of a batch is given up so: {given_up.why}"
    return _too_long(given_up.failure, max_retry_wait_s) if given_up.why == "wait" else given_up.failure


def _too_long(failure: CallError, max_retry_wait_s: float) -> CallError:
    """Return the failure with what the other side asked for, and what is allowed."""
    assert failure.retry_after_s is not None, "nobody asked for a wait"
    asked, allowed = span(failure.retry_after_s), span(max_retry_wait_s)
    failure.what += f"; the next attempt was asked for in {asked}, and a call waits at most {allowed}"
    failure.hint = failure.hint or "raise the step's `max_retry_wait`, or repeat the command later"
    return failure
