"""The failures of one live host: how often they came, by place and kind, and the last messages.

Owns their bounds: a server has no end, and its failures may have none either. Never keeps a secret, a header or more
than the beginning of a message, which may quote what a client has sent.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

from sundog.errors import CallError
from sundog.host.attempt import Attempt
from sundog.ir.pool_names import label_of

NUM_LAST = 50
MAX_KINDS = 200
MAX_MESSAGE_CHARACTERS = 160


class FailureKind(NamedTuple):
    """A kind of failure; its names are the server's own."""

    #: Row or attempt.
    what: str
    #: The flow, "" for calls of models that come one by one.
    flow: str
    #: The step of the flow, or the engine.
    where: str
    #: The name of the error.
    error: str


OTHERS = FailureKind("other", "", "", "other kinds")
"""The kinds that come when MAX_KINDS are known."""


class FailureNote(NamedTuple):
    """One failure."""

    kind: FailureKind
    #: Seconds since the epoch.
    at: float
    #: The beginning of what is said of it.
    message: str
    #: The one whose call it was, "" where nobody told.
    tenant: str


class Failures:
    """This class keeps what has failed. `redact`: takes secrets out of a text."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self.num_by_kind: Counter[FailureKind] = Counter()
        #: The newest one last.
        self.last: deque[FailureNote] = deque(maxlen=NUM_LAST)

    def attempt_failed(self, attempt: Attempt, error: CallError, at: float) -> None:
        """Count an attempt; another one may follow it."""
        where = attempt.step or label_of(attempt.pool)
        kind = FailureKind("attempt", attempt.flow, where, type(error).__name__)
        self._note(kind, at, error.what, attempt.tenant)

    def row_failed(self, flow: str, node: str, cause: str, at: float, tenant: str) -> None:
        """Count a row that has ended without its output. `cause`: begins with the name of an error."""
        error, _, message = cause.partition(": ")
        # Nodes of loops are named with their turns, of which there may be any number.
        self._note(FailureKind("row", flow, node.rpartition("/")[2], error), at, message, tenant)

    def _note(self, kind: FailureKind, at: float, message: str, tenant: str) -> None:
        if kind not in self.num_by_kind and len(self.num_by_kind) >= MAX_KINDS:
            kind = OTHERS
        self.num_by_kind[kind] += 1
        self.last.append(FailureNote(kind, at, _beginning(self._redact(message)), tenant))


def _beginning(message: str) -> str:
    """Return the beginning of a message on one line, without characters that act on a terminal."""
    line = "".join(letter if letter.isprintable() else " " for letter in " ".join(message.split()))
    return line if len(line) <= MAX_MESSAGE_CHARACTERS else f"{line[: MAX_MESSAGE_CHARACTERS - 1]}…"
