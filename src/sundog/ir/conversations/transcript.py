"""The words of a row, as they are kept for readers: conversations of agents, turns of loops, questions to people.

Owns the data and its form in the store. Never decides what is kept (execution.transcripts), nor how it looks (present).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

TranscriptKind = Literal["agent", "loop", "llm", "human"]
SayingKind = Literal["message", "step", "question", "person"]
FAILED, WAITS = "failed", "waits"
"""In the place of what ended a conversation: the row failed, or a person has to answer first."""


@dataclass(frozen=True, slots=True)
class KeptText:
    """A text, or its beginning."""

    text: str
    #: Characters that were not kept.
    num_left_out: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """The time and tokens of one call when it was computed."""

    seconds: float = 0.0
    #: Tokens, 0 for a call of no model.
    num_prompt_tokens: int = 0
    #: Prompt tokens that were found in a cache, 0 where the engine does not tell.
    num_cached_tokens: int = 0
    num_output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class KeptCall:
    """The call of a tool, as the model wrote it."""

    id: str
    name: str
    arguments: KeptText


@dataclass(frozen=True, slots=True)
class Saying:
    """One thing that was said: a message, the value of a step, a question to a person, or the answer."""

    kind: SayingKind
    #: The role of a message; for a value the step's name.
    role: str
    content: KeptText
    #: The turn that it belongs to, from 1; 0 for what was asked first.
    turn: int = 0
    calls: tuple[KeptCall, ...] = ()
    #: The call whose result it is.
    call_id: str = ""
    #: It is what went wrong, as the model is told.
    is_error: bool = False
    #: None for what no call gave.
    figures: Figures | None = None
    #: The key of a person's answer, in hexadecimal digits; else empty.
    answer_key: str = ""


@dataclass(frozen=True, slots=True)
class Transcript:
    """One conversation of a row."""

    #: The place in the row: the name of the step, with the element and the turn around it.
    path: str
    kind: TranscriptKind
    #: The reason for its end: as an agent's `stopped`, FAILED or WAITS; empty where it simply ended.
    ended: str
    said: tuple[Saying, ...]
    #: So many more things were said and are not kept.
    num_left_out: int = 0

    @property
    def figures(self) -> Figures:
        """Return the sums over all that was said."""
        told = [one.figures for one in self.said if one.figures is not None]
        return Figures(
            sum(one.seconds for one in told),
            sum(one.num_prompt_tokens for one in told),
            sum(one.num_cached_tokens for one in told),
            sum(one.num_output_tokens for one in told),
        )


@dataclass(frozen=True, slots=True)
class RowTranscripts:
    """All that is kept of one row."""

    transcripts: tuple[Transcript, ...]
    #: Further conversations that are not kept.
    num_left_out: int = 0

    @property
    def ended(self) -> str:
        """Return how its conversations ended, each way once."""
        return ", ".join(sorted({one.ended for one in self.transcripts if one.ended}))


@dataclass(frozen=True, slots=True)
class Answered:
    """The one who answered a question, and the time."""

    #: Empty where nobody said.
    by: str
    #: ISO time, UTC.
    at: str


@dataclass(frozen=True, slots=True)
class RowConversations:
    """The conversations of one row of a run, for a reader."""

    run: str
    #: The row's number, behind its table where the flow has several.
    row: str
    #: A phrase that says how the row stands.
    state: str
    kept: RowTranscripts
    #: By the key of an answer, in hexadecimal digits.
    answered: Mapping[str, Answered]


def pack_transcripts(kept: RowTranscripts) -> bytes:
    """Return the form that the store holds: compressed JSON."""
    return zlib.compress(json.dumps(asdict(kept), separators=(",", ":")).encode(), 1)


def unpack_transcripts(body: bytes) -> RowTranscripts:
    """Return what `pack_transcripts` was given; ValueError for anything else."""
    try:
        found = json.loads(zlib.decompress(body))
        return RowTranscripts(tuple(map(_transcript, found["transcripts"])), found["num_left_out"])
    except (zlib.error, KeyError, TypeError) as error:
        raise ValueError(str(error)) from error


def _transcript(found: Mapping[str, Any]) -> Transcript:
    return replace(Transcript(**found), said=tuple(map(_saying, found["said"])))


def _saying(found: Mapping[str, Any]) -> Saying:
    figures = found["figures"]
    return replace(
        Saying(**found),
        content=KeptText(**found["content"]),
        calls=tuple(_calls(found["calls"])),
        figures=None if figures is None else Figures(**figures),
    )


def _calls(found: Sequence[Mapping[str, Any]]) -> list[KeptCall]:
    return [replace(KeptCall(**one), arguments=KeptText(**one["arguments"])) for one in found]
