"""One guard around all that an operator and its engine do for a call: whatever they raise is an error of that row.

Owns which exceptions pass, and what of an outcome is kept. Never runs or stores anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, NoReturn, TypeGuard, TypeVar

from sundog.engines.base import Usage
from sundog.errors import CallError, OperatorError, RunError, SundogError, error_text
from sundog.ir.values.normal_form import NoNormalForm, encode, normal_form
from sundog.operators.base import Outcome
from sundog.secrets import Secrets

T = TypeVar("T")
_BECOME_VALUES = (Exception, SystemExit, GeneratorExit, asyncio.CancelledError)
MAX_COUNT = 1 << 53
"""More tokens than any request has, and few enough that sums over many requests stay exact."""


@dataclass(slots=True)
class CommittedOutcome:
    """An outcome as it is committed: the value in its normal form, without secrets."""

    value: Any
    #: The same as JSON.
    body: bytes
    usage: Usage | None
    #: Seconds of the attempt that gave it.
    call_s: float = 0.0


def fail_call(error: BaseException, secrets: Secrets, *, is_outcome_unknown: bool = False) -> NoReturn:
    """Raise `error` as a CallError of its row: any Exception, and what leaves a process or a generator. A CallError
    loses its secrets; RunError, the cancellation of the task and Ctrl-C pass as they are. `is_outcome_unknown`: what
    failed may have acted outside before it did."""
    if isinstance(error, CallError):
        error.what = secrets.redact(error.what)
        error.hint = None if error.hint is None else secrets.redact(error.hint)
        error.args = (error.what,)
        raise error
    if isinstance(error, RunError) or not isinstance(error, _BECOME_VALUES):
        raise error
    if isinstance(error, asyncio.CancelledError) and _is_cancelled():
        raise error
    hint = error.hint if isinstance(error, SundogError) else None
    raise OperatorError(
        secrets.redact(_cause(error, secrets)),
        hint=None if hint is None else secrets.redact(hint),
        is_outcome_unknown=is_outcome_unknown,
    ) from error


def keep(outcome: Outcome, secrets: Secrets) -> CommittedOutcome:
    """Return what is committed of an outcome; NoNormalForm where its value has no JSON form."""
    value = secrets.redact_all(normal_form(outcome.value))
    return CommittedOutcome(value, encode(value), outcome.usage and checked_usage(outcome.usage))


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does, for a run. `sys.exit` in a task that a step's function has started ends
    the loop wherever it stands, and no guard is around that task: RunError then, as a run that ends so has not
    succeeded."""
    try:
        return asyncio.run(main)
    except SystemExit as error:
        raise RunError(
            f"a function of the flow called sys.exit({error.code!r}) in a task of its own, which ends the event loop",
            hint="let the function raise an exception instead; then repeat the command: it continues the run",
        ) from error


def _cause(error: BaseException, secrets: Secrets) -> str:
    match error:
        case SundogError():
            return error.what
        case NoNormalForm():
            return f"the result cannot be kept: {error}"
    return error_text(error, secrets.redact)


def checked_usage(usage: Usage) -> Usage:
    """Return `usage` where each count is one; a count that is none was not told."""
    if _is_count(usage.num_prompt_tokens) and _is_count(usage.num_output_tokens):
        cached, seen = usage.num_cached_tokens, usage.num_seen_tokens
        if (cached is None or _is_count(cached)) and (seen is None or _is_count(seen)):
            return usage
    prompt, output, cached, seen = map(
        _count, (usage.num_prompt_tokens, usage.num_output_tokens, usage.num_cached_tokens, usage.num_seen_tokens)
    )
    return Usage(prompt or 0, output or 0, cached, seen)


def _count(count: object) -> int | None:
    return count if _is_count(count) else None


def _is_count(count: object) -> TypeGuard[int]:
    return type(count) is int and 0 <= count <= MAX_COUNT


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
