"""The record of what is said in one row, for whoever reads its conversations later (`sundog trace --row`).

Owns what is kept and how much of it. Nothing reads it while the run goes on, and no result depends on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sundog.engines.base import Message, Usage
from sundog.engines.message_parts import TextPart
from sundog.execution.calls.dispatch import CallAnswer
from sundog.ir.agents import AgentExec, ToolFlowExec
from sundog.ir.alternatives import AlternativesExec
from sundog.ir.conversations.transcript import (
    Figures,
    KeptCall,
    KeptText,
    RowTranscripts,
    Saying,
    Transcript,
    TranscriptKind,
)
from sundog.ir.conversations.written import GivenMessages
from sundog.ir.logical import Step
from sundog.ir.physical import CallExec, Exec, LoopExec
from sundog.ir.values.normal_form import whole_text

MAX_TEXT = 8_000
"""Characters of one text."""
MAX_ROW = 400_000
"""Characters of all texts of a row."""
MAX_TRANSCRIPTS = 20
"""Conversations of a row: one with more of them has a fan-out."""
MAX_SAYINGS = 500
"""Things said in one conversation."""
_TURNS = (LoopExec, ToolFlowExec)
_TURN = re.compile(r"^(.*)\.(\d+)/[^/]*$")


@dataclass(slots=True)
class _Loop:
    """The calls of a loop so far, by their turn and their place in the row."""

    said: list[tuple[tuple[int, int, str], list[Saying]]] = field(default_factory=list)
    #: By step, the messages of its last prompt: the next one often begins with them.
    prompts: dict[str, tuple[Message, ...]] = field(default_factory=dict)


class RowRecord:
    """This class collects what is said in one row."""

    def __init__(self) -> None:
        #: The names of what is counted beside its calls, one for each time.
        self.counted: list[str] = []
        self._transcripts: list[Transcript] = []
        self._loops: dict[str, _Loop] = {}
        self._num_left = MAX_ROW

    def keep(self, path: str, kind: TranscriptKind, ended: str, said: Sequence[Saying]) -> None:
        """Keep a conversation that has ended, or the beginning of one."""
        kept = tuple(said[:MAX_SAYINGS])
        self._transcripts.append(Transcript(path, kind, ended, kept, len(said) - len(kept)))

    def step(self, node: CallExec, path: str, place: int, answer: CallAnswer, *, is_alternative: bool = False) -> None:
        """Keep a call of a step: in its loop's turn where it is in one, else as a conversation of its own. `place`:
        among the steps beside it. `is_alternative`: another step may stand in for it, or it for another."""
        if is_alternative:
            path = path.rpartition("/")[0].rpartition(".")[0]
        found = _TURN.match(path)
        if found is None:
            kind: TranscriptKind = "human" if node.step.operator == "human" else "llm"
            self.keep(path, kind, "", self._said(node, path, 0, answer, answer.prompt))
            return
        loop = self._loops.setdefault(found[1], _Loop())
        before, now = loop.prompts.get(node.name, ()), answer.prompt
        loop.prompts[node.name] = now
        new = now[len(before) :] if now[: len(before)] == before else now
        turn = int(found[2])
        loop.said.append(((turn, place, path), self._said(node, path, turn, answer, new)))

    def text(self, text: str) -> KeptText:
        """Return as much of a text as is kept."""
        kept = whole_text(text[: min(MAX_TEXT, self._num_left)])
        self._num_left -= len(kept)
        return KeptText(kept, len(text) - len(kept))

    def message(self, message: Message, turn: int, figures: Figures | None = None, **more: Any) -> Saying:
        """Return a message as it is kept. `more`: other fields of Saying."""
        calls = tuple(KeptCall(one.id, one.name, self.text(one.arguments)) for one in message.tool_calls)
        content = self.text(_content(message))
        call_id = message.tool_call_id or ""
        return Saying("message", message.role, content, turn, calls, call_id, figures=figures, **more)

    def packed(self) -> RowTranscripts | None:
        """Return all that is kept; None where nothing was said."""
        for path, loop in self._loops.items():
            self.keep(path, "loop", "", [one for _, said in sorted(loop.said, key=_order) for one in said])
        self._loops = {}
        if not self._transcripts:
            return None
        kept = sorted(self._transcripts, key=lambda one: _natural(one.path))
        return RowTranscripts(tuple(kept[:MAX_TRANSCRIPTS]), max(0, len(kept) - MAX_TRANSCRIPTS))

    def _said(
        self, node: CallExec, path: str, turn: int, answer: CallAnswer, prompt: Sequence[Message]
    ) -> list[Saying]:
        if node.step.operator == "human":
            question = Saying("question", node.name, self.text(answer.question or ""), turn)
            return [
                question,
                Saying("person", node.name, self.text(answer.value["text"]), turn, answer_key=answer.key.hex()),
            ]
        took = figures(answer.call_s, answer.usage)
        if not prompt and not answer.prompt:
            return [Saying("step", node.name, self.text(_as_text(answer.value)), turn, figures=took)]
        value = answer.value
        text = value["text"] if isinstance(value, Mapping) and "text" in value else _as_text(value)
        said = [self.message(message, turn) for message in prompt]
        return [*said, self.message(Message("assistant", text), turn or 1, took)]


def figures(call_s: float, usage: Usage) -> Figures:
    """Return what a call took."""
    return Figures(round(call_s, 6), usage.num_prompt_tokens, usage.num_cached_tokens or 0, usage.num_output_tokens)


def recorded_steps(nodes: Sequence[Exec], *, is_in_loop: bool = False, is_alternative: bool = False) -> dict[str, bool]:
    """Return the steps of a table whose calls are kept, with whether they are alternatives of one step: those in loops
    and in tools' flows, those that are asked with a conversation, and those that a person answers. What agents say,
    they keep themselves."""
    found: dict[str, bool] = {}
    for node in nodes:
        if isinstance(node, CallExec):
            if is_in_loop or node.step.operator == "human" or _has_conversation(node.step):
                found[node.name] = is_alternative
        elif isinstance(node, AgentExec):
            found |= recorded_steps([inner for inner in node.body if isinstance(inner, LoopExec)])
        elif isinstance(node, LoopExec):
            is_loop = is_in_loop or type(node) in _TURNS
            found |= recorded_steps(node.body, is_in_loop=is_loop, is_alternative=isinstance(node, AlternativesExec))
    return found


def _has_conversation(step: Step) -> bool:
    written = getattr(step.spec, "messages", ())
    return any(isinstance(message, GivenMessages) for message in written)


def _content(message: Message) -> str:
    if not message.parts:
        return message.content
    return "\n".join(part.text if isinstance(part, TextPart) else f"[{_kind(part)}]" for part in message.parts)


def _kind(part: object) -> str:
    return "image" if type(part).__name__ == "ImagePart" else "file"


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _order(said: tuple[tuple[int, int, str], list[Saying]]) -> tuple[Any, ...]:
    (turn, place, path), _ = said
    return turn, place, _natural(path)


def _natural(path: str) -> list[tuple[int, str]]:
    """Return a key that puts the tenth element behind the ninth."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path)]
