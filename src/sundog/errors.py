"""The errors of sundog, and what each one tells its reader.

    SundogError
    ├── UserError
    │   ├── ConfigError
    │   ├── FlowError
    │   └── InputError
    ├── RunError
    │   ├── StoreError
    │   └── RunStopped
    │       ├── AnswersAwaited
    │       └── LimitReached
    ├── CallError
    │   ├── EngineError
    │   │   ├── EngineTimeout
    │   │   ├── EngineOverloaded
    │   │   ├── EngineUnavailable
    │   │   ├── BadResponse
    │   │   └── PromptTooLong
    │   └── OperatorError
    └── PlanError

A UserError ends a command with exit code 2, AnswersAwaited with 3, every other one that reaches it with 1. A CallError
of a row's call reaches no command: it becomes a value of the row.

Owns the exception tree and the form of a message: what happened, where, and what to do. Never prints.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

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
    """The base of all; raised only as one of its subclasses, and caught by the command line, which prints it.

    `what` is one sentence, `where` a place, `hint` what to do next.
    """

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
    """Raised where what the user wrote or asked for is wrong; caught by the command line, which exits with 2."""

    exit_code = 2


class ConfigError(UserError):
    """Raised for a wrong option, name, environment variable or engine block; caught as a UserError."""


class FlowError(UserError):
    """Raised for a mistake in a flow, with file, line and column; caught by `flow.bind`, which collects them all."""


class InputError(UserError):
    """Raised where the rows cannot be read: no file, a bad line, no such column; caught as a UserError."""


class RunError(SundogError):
    """Raised for a failure at run time that is no row's fault; caught by the command line, which exits with 1."""


class StoreError(RunError):
    """Raised where the state folder, or another file that sundog keeps, is full or damaged; caught as a RunError."""


class RunStopped(RunError):
    """Raised where a run ends early, interrupted or with too many failed rows; caught by the run, which writes them."""


class AnswersAwaited(RunStopped):
    """Raised where a person has to answer before a row, or the run, can go on; caught by the feed, whose other rows go
    on, and of a run by the command line, which exits with 3."""

    exit_code = 3
    #: The conversations of the row before (ir.conversations.transcript.RowTranscripts), None where there were none.
    said: Any = None


class LimitReached(RunStopped):
    """Raised where a limit of money, tokens or time lets no further call start; caught by the feed, which lets what
    runs end, by those who joined the call, and by whoever answers a live request."""

    #: The reason with its parts (ledger.ledger.LimitRefusal), None where there is no call.
    refusal: Any = None


class PlanError(SundogError):
    """Raised where a plan or a placement breaks an invariant, by a bug; caught by the driver of the rewrites, which
    names the rule, and by the command line."""


class CallError(SundogError):
    """Raised by an engine or an operator for one call that failed; caught by the dispatcher, which tells the core, and
    by the executor, which makes it a value of the row.

    `retryable`: the same call may succeed later. `retry_after_s`: the server's wish, in seconds.
    `is_outcome_unknown`: the other side may have acted; an effect with it is never repeated by itself.
    `num_attempts`: how many were made; counted by the runtime. `call_s`: seconds until it was given up, where those are
    kept. `inner`: as of an answer, the calls of models that were made for a use of a tool. `is_refused`: the other side
    has computed nothing of it, so that it cost nothing. `usage`: the tokens that it took all the same
    (engines.base.Usage), None where nobody tells.
    """

    is_refused = False
    usage: Any = None
    inner: tuple[Any, ...] = ()

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
        self.call_s = 0.0


class OperatorError(CallError):
    """Raised by an operator, or by a template, for a call that failed; caught as a CallError."""


class EngineError(CallError):
    """Raised by an engine for a call that failed, always as one of its subclasses; caught as a CallError."""


class EngineTimeout(EngineError):
    """Raised where an engine gave no answer in time; caught as a CallError, and by the health checks of replicas."""


class EngineOverloaded(EngineError):
    """Raised where an engine has no room or refuses for its load, as with status 429; caught as a CallError."""

    is_refused = True


class EngineUnavailable(EngineError):
    """Raised where no engine answers: not started, closed, crashed; caught as a CallError, and by the health checks."""


class BadResponse(EngineError):
    """Raised for an answer that is broken, empty, refused or not of the form asked for; caught as a CallError."""


class PromptTooLong(EngineError):
    """Raised where a prompt and its answer do not fit into the model's context; caught as a CallError."""

    is_refused = True


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the hint under an unknown name: the closest of `known` as a question, or the list of them."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known here: {', '.join(names)}" if names else "nothing is defined here"


def error_text(error: BaseException, redact: Callable[[str], str] = str) -> str:
    """Return the class and the message of any exception; for a group, which says nothing itself, those of what is in
    it.

    Nothing of the exception is trusted: its message may be endless, and asking for it may fail. `redact` takes secrets
    out of a message before that is cut.
    """
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
