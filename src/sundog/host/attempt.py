"""One attempt of a request: its result when it succeeds, and the record of it that everybody reads.

Owns these two forms. Never sums anything up: host.recorder does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, Literal, NamedTuple, TypeVar

from sundog.engines.base import Usage
from sundog.errors import CallError
from sundog.sched.events import Submit

T = TypeVar("T")
AttemptOutcome = Literal["succeeded", "failed", "cancelled"]


class Success(NamedTuple, Generic[T]):
    """The result of an attempt that succeeded, with what it took."""

    result: T
    #: None where it tells of no tokens.
    usage: Usage | None = None
    #: Calls that the request was made for: more than one where calls were gathered.
    num_calls: int = 1
    #: Calls of them that have their answer.
    num_answered: int = 1
    #: The length of a call's result as JSON, in the mean of those answered; 0 where nobody tells.
    num_result_bytes: float = 0.0


RunAttempt = Callable[[Submit], Awaitable[Success[T]]]
"""Runs one attempt where the core says. CallError is its failure, and the core decides whether there is another."""


class Attempt(NamedTuple):
    """The record of an attempt that has ended. It lasts from the moment at which the core starts it to the one at which
    the core hears of its end: so long it holds its place at the replica. Times are seconds on the driver's clock."""

    pool: str
    replica_id: str
    flow: str
    step: str
    began_s: float
    ended_s: float
    #: Seconds of the replica: each moment is divided equally among the attempts that run there in it.
    share_s: float
    outcome: AttemptOutcome
    usage: Usage | None
    num_calls: int
    #: As of Success; 0 where the attempt did not succeed.
    num_answered: int
    #: Tokens of the prompt as they were counted before the call; 0 for a tool, and where calls were gathered.
    num_counted_tokens: int = 0
    #: As of Success.
    num_result_bytes: float = 0.0
    #: The error of an attempt that failed.
    failure: CallError | None = None
    #: The one who is charged for it, "" where nobody told.
    tenant: str = ""

    @property
    def call_s(self) -> float:
        """The seconds that one of its calls took."""
        return (self.ended_s - self.began_s) / self.num_calls


Listener = Callable[[Attempt], None]
