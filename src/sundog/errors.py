"""The errors of sundog, and what each one tells its reader.

Owns the exception tree and the form of a message: what happened, where, and what to do. Never prints.

    SundogError
    ├── UserError             the user's input is wrong; exit code 2
    │   ├── ConfigError       options, environment, engine blocks
    │   ├── FlowError         the flow file: has file, line, column
    │   └── InputError        the rows: unreadable file, bad line, missing column
    ├── RunError              a failure at run time; exit code 1
    │   ├── StoreError        the state folder: full disk, damaged file
    │   └── RunStopped        too many failed rows, interrupted
    ├── CallError             one call failed; becomes a value of its row
    │   ├── EngineError       EngineTimeout, EngineOverloaded, EngineUnavailable, BadResponse, PromptTooLong
    │   └── OperatorError     SQL, HTTP, Python steps
    └── PlanError             a plan broke an invariant; names the rule (a bug in sundog)
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

MAX_MESSAGE = 2000
"""Characters that are shown of an exception which is not sundog's own."""

MAX_SHOWN_OF_GROUP = 3


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a file the user wrote; `line` and `column` count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class SundogError(Exception):
    """Base of all. `what` is one sentence, `where` a place, `hint` what to do next."""

    exit_code = 1

    def __init__(self, what: str, *, where: Location | str | None = None, hint: str | None = None) -> None:
        self.what = what
        self.where = where
        self.hint = hint
        super().__init__(what)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  {self.hint}" if self.hint else head


class UserError(SundogError):
    exit_code = 2


class ConfigError(UserError):
    pass


class FlowError(UserError):
    pass


class InputError(UserError):
    pass


class RunError(SundogError):
    pass


class StoreError(RunError):
    pass


class RunStopped(RunError):
    pass


class PlanError(SundogError):
    pass


class CallError(SundogError):
    """One call failed.

    `retryable`: the same call may succeed later. `retry_after_s`: the server's wish, in seconds.
    `is_outcome_unknown`: the other side may have acted; an effect with it is never repeated by itself.
    `num_attempts`: how many were made; counted by the runtime.
    """

    def __init__(
        self,
        what: str,
        *,
        where: Location | str | None = None,
        hint: str | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
        is_outcome_unknown: bool = False,
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.is_outcome_unknown = is_outcome_unknown
        self.num_attempts = 0


class OperatorError(CallError):
    pass


class EngineError(CallError):
    pass


class EngineTimeout(EngineError):
    pass


class EngineOverloaded(EngineError):
    pass


class EngineUnavailable(EngineError):
    pass


class BadResponse(EngineError):
    pass


class PromptTooLong(EngineError):
    pass


def suggest(name: str, known: Iterable[str]) -> str:
    """The closest of `known` as a question, or the list of them: the hint under an unknown name."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known here: {', '.join(names)}" if names else "nothing is defined here"


def error_text(error: BaseException, redact: Callable[[str], str] = str) -> str:
    """The class and the message of any exception on their own: a message may be endless, and asking for it may fail.
    Of a group, which says nothing itself, those of what is in it. `redact`: takes secrets out of a message, before
    that is cut."""
    name = type(error).__name__
    if isinstance(error, BaseExceptionGroup):
        shown = "; ".join(error_text(one, redact) for one in error.exceptions[:MAX_SHOWN_OF_GROUP])
        num_more = len(error.exceptions) - MAX_SHOWN_OF_GROUP
        return f"{shown}; and {num_more:,} more" if num_more > 0 else shown
    try:
        message = redact(str(error))
    except BaseException as failure:  # the code of the user, which may raise whatever it likes
        return f"{name} (its text cannot be had: {type(failure).__name__})"
    if len(message) > MAX_MESSAGE:
        message = f"{message[:MAX_MESSAGE]}... ({len(message):,} characters)"
    return f"{name}: {message}" if message else name
