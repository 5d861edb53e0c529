"""The conversations of a row as blocks that a terminal and a page show alike.

Owns what is said of each thing that was said, and how much of a text is shown. The kept form is
ir.conversations.transcript.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from sundog.ir.conversations.transcript import (
    FAILED,
    WAITS,
    Figures,
    KeptText,
    RowConversations,
    Saying,
    Transcript,
)
from sundog.present.figures import seconds

MAX_CHARACTERS = 1_500
MAX_LINES = 40
"""As much of one text is shown, where not all is asked for."""
MAX_ON_ONE_LINE = 90
KINDS = {"agent": "agent", "loop": "loop", "llm": "one call", "human": "a person is asked"}
_JOINERS = "\u200c\u200d"
BlockKind = Literal["said", "call", "result", "error"]


@dataclass(frozen=True, slots=True)
class Block:
    """One thing that was said. All texts can be shown: nothing in them acts on a terminal or turns the direction."""

    kind: BlockKind
    head: str
    #: The time and tokens that it took, or the person who said it; empty where nothing is known.
    facts: str
    text: str
    #: Characters of the text that are not shown.
    num_left_out: int = 0


@dataclass(frozen=True, slots=True)
class ShownConversation:
    """One conversation."""

    title: str
    #: The time and tokens of all of it.
    facts: str
    blocks: tuple[Block, ...]
    #: Things that were said and are not kept.
    num_left_out: int


def shown_conversations(row: RowConversations, *, is_full: bool) -> tuple[ShownConversation, ...]:
    """Return the conversations of a row. `is_full`: texts are shown as far as they are kept."""
    return tuple(_shown(row, one, is_full=is_full) for one in row.kept.transcripts)


def with_visible_state(row: RowConversations) -> RowConversations:
    """Return a row whose state can be shown: a failure tells what servers and models have said."""
    return replace(row, state=visible(row.state))


def more_of(row: RowConversations, shown: Iterable[ShownConversation], *, is_full: bool) -> str:
    """Return the command that shows more of the texts; empty where there is no more of them."""
    is_cut = any(block.num_left_out for one in shown for block in one.blocks)
    return f"sundog trace {row.run} --row {row.row} --full" if is_cut and not is_full else ""


def left_out(num_characters: int) -> str:
    """Return the note on a text of which only the beginning is shown."""
    return "(1 more character)" if num_characters == 1 else f"({num_characters:,} more characters)"


def visible(text: str) -> str:
    """Return a text in which every character can be seen or is a space or the end of a line: others, such as those
    that act on a terminal or turn the direction of what follows, are written by their numbers."""
    lines = text.replace("\r\n", "\n").replace("\t", "    ").split("\n")
    return "\n".join(line if line.isprintable() else "".join(map(_visible, line)) for line in lines)


def _visible(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    return " " if character.isspace() and ord(character) > 0x7F else f"\\u{ord(character):04x}"


def _shown(row: RowConversations, transcript: Transcript, *, is_full: bool) -> ShownConversation:
    num_turns = max((one.turn for one in transcript.said), default=0)
    parts = [KINDS[transcript.kind]]
    if transcript.kind in ("agent", "loop"):
        parts.append("1 turn" if num_turns == 1 else f"{num_turns:,} turns")
    if transcript.ended:
        parts.append(
            {FAILED: "failed", WAITS: "waits for a person"}.get(transcript.ended, f"stopped: {transcript.ended}")
        )
    blocks = tuple(_blocks(row, transcript, is_full=is_full))
    return ShownConversation(
        visible(f"{transcript.path}: {', '.join(parts)}"), _facts(transcript.figures), blocks, transcript.num_left_out
    )


def _blocks(row: RowConversations, transcript: Transcript, *, is_full: bool) -> Iterator[Block]:
    """Yield a block for each thing, the result of a call behind the call."""
    names = {call.id: call.name for one in transcript.said for call in one.calls}
    results = {one.call_id: one for one in transcript.said if one.call_id in names}
    for one in transcript.said:
        if one.call_id in results:
            continue
        yield _block(row, transcript, one, one.call_id, is_full=is_full)
        for call in one.calls:
            yield _cut("call", f"calls {visible(call.name)}", "", pretty(call.arguments), is_full=is_full)
            result = results.get(call.id)
            if result is not None:
                yield _block(row, transcript, result, call.name, is_full=is_full)
            elif transcript.ended == WAITS:
                yield Block("result", f"{visible(call.name)} has not answered", "", "it waits for a person")


def _block(row: RowConversations, transcript: Transcript, one: Saying, tool: str, *, is_full: bool) -> Block:
    turn = f"turn {one.turn}: " if one.turn and transcript.kind in ("agent", "loop") else ""
    facts = "" if one.figures is None else _facts(one.figures)
    content = one.content
    match one.kind, one.role:
        case _ if one.answer_key:
            head, kind = f"a person answers {visible(tool or one.role)}", "result"
            known = row.answered.get(one.answer_key)
            facts = "" if known is None else visible(", ".join(filter(None, (known.by, known.at))))
        case "question", _:
            head, kind = f"{visible(one.role)} asks a person", "call"
        case "message", "tool":
            ends = "fails" if one.is_error else "answers"
            head, kind = f"{visible(tool)} {ends}", "error" if one.is_error else "result"
            content = pretty(content)
        case _:
            head, kind = f"{turn}{visible(one.role)}", "result" if one.kind == "step" else "said"
            content = pretty(content) if one.kind == "step" else content
    return _cut(kind, head, facts, content, is_full=is_full)  # type: ignore[arg-type]  # each is a BlockKind


def pretty(kept: KeptText) -> KeptText:
    """Return JSON with a line for each value of a list or a mapping where one line would be too long; other texts as
    they are."""
    if kept.num_left_out or not kept.text.startswith(("{", "[")):
        return kept
    try:
        value = json.loads(kept.text)
        short = json.dumps(value, ensure_ascii=False)
        if len(short) <= MAX_ON_ONE_LINE:
            return KeptText(short)
        if isinstance(value, list):
            lines, begin, end = [json.dumps(one, ensure_ascii=False) for one in value], "[", "]"
        else:
            pairs = ({name: one} for name, one in value.items())
            lines, begin, end = [json.dumps(pair, ensure_ascii=False)[1:-1] for pair in pairs], "{", "}"
        return KeptText("\n".join((begin, ",\n".join(f"  {line}" for line in lines), end)))
    except (ValueError, RecursionError):
        return kept


def _cut(kind: BlockKind, head: str, facts: str, kept: KeptText, *, is_full: bool) -> Block:
    text = kept.text
    if not is_full:
        text = "\n".join(text[:MAX_CHARACTERS].split("\n")[:MAX_LINES])
    return Block(kind, head, facts, visible(text), kept.num_left_out + len(kept.text) - len(text))


def _facts(figures: Figures) -> str:
    took = f"{seconds(figures.seconds)} s"
    if not (figures.num_prompt_tokens or figures.num_output_tokens):
        return took if figures.seconds else ""
    cached = f", {figures.num_cached_tokens:,} cached" if figures.num_cached_tokens else ""
    return f"{figures.num_prompt_tokens:,} prompt tokens{cached}, {figures.num_output_tokens:,} output, {took}"
