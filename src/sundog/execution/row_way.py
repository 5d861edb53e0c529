"""One row on its way through the steps of its table, and how it ends.

Owns the data. execution.executor moves rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sundog.errors import CallError
from sundog.execution.calls.dispatch import CallAnswer, EngineUsage
from sundog.execution.input_row import Lacks
from sundog.execution.transcripts import RowRecord
from sundog.ir.conversations.transcript import RowTranscripts
from sundog.ir.row_ids import RowRef
from sundog.ir.values.normal_form import encode, whole_text
from sundog.store.store import RowState
from sundog.store.writer import Asked

KNOWN = "known"
"""The key in the body of a failed row with the columns that it has all the same."""
BECAUSE_OF = "because_of"
"""The key in the body of a row that was not run with the tables in which rows failed for it."""
MADE_OF = "made_of"
"""The key in such a body with the table of the rows that it is made of."""
OnValue = Callable[[str, Any], None]
"""Hears of each node of the plan (not inside loops) and its value, as templates see it."""


@dataclass(slots=True)
class RowEnd:
    """The end of one row."""

    row: RowRef
    state: RowState
    #: The output row, or {node, cause, attempts} of a failed one and the columns that are known of it, as JSON.
    body: bytes
    asked: tuple[Asked, ...]
    #: The conversations in it, None where there were none.
    said: RowTranscripts | None = None


class RowDropped(Exception):
    """Raised where a filter ends the row; caught by the row's own task in execution.executor."""


class NodeFailed(Exception):
    """Raised where a step of the row failed with `error`; caught by the row's own task in execution.executor."""

    def __init__(self, node: str, error: CallError) -> None:
        super().__init__(node)
        self.node = node
        self.error = error

    def body(self, known: Mapping[str, Any], lacks: Lacks | None) -> bytes:
        """Return what is kept of the failed row, or of one that was not run for what it `lacks`. `known`: columns that
        it has all the same."""
        error = self.error
        hint = {"hint": whole_text(error.hint)} if error.hint else {}
        cause = whole_text(f"{type(error).__name__}: {error.what}")
        kept: dict[str, Any] = {KNOWN: known} if known else {}
        if lacks is not None:
            kept |= {BECAUSE_OF: lacks.failed_in, MADE_OF: lacks.table}
        return encode({"node": self.node, "cause": cause, **hint, "attempts": error.num_attempts, **kept})


@dataclass(slots=True)
class RowWay:
    """A row on its way. `asked` grows with each answered call."""

    row: RowRef
    position: int
    asked: list[Asked] = field(default_factory=list)
    record: RowRecord = field(default_factory=RowRecord)
    on_value: OnValue | None = None
    #: These are the calls of one use of a tool: a model is told of their failures, which are committed.
    is_use: bool = False
    #: Seconds of the calls of that use, as they were when they were computed, in no order.
    call_seconds: list[float] = field(default_factory=list)
    #: The tokens of those of them that asked a model, with its engine.
    spent: list[EngineUsage] = field(default_factory=list)
    #: The failure of an effect of that use, of which nobody knows whether it happened: no model is told.
    unknown: CallError | None = None

    def use(self) -> RowWay:
        """Return the row as the calls of one use of a tool see it."""
        return RowWay(self.row, self.position, self.asked, self.record, is_use=True)

    def took(self, answer: CallAnswer | CallError, engine: str | None = None) -> None:
        """Count what an answer has taken, or a failure. `engine`: the one that was asked for it, None for a tool."""
        if engine is not None and isinstance(answer, CallAnswer):
            answer.inner = ((engine, answer.usage),)
        self.call_seconds.append(answer.call_s)
        self.spent += answer.inner

    def ended(self, state: RowState, body: bytes) -> RowEnd:
        counted = [Asked(name, 0, 0) for name in self.record.counted]
        return RowEnd(self.row, state, body, (*self.asked, *counted), self.record.packed())
