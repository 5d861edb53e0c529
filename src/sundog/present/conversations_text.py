"""The conversations of a row as lines of a terminal.

Owns indents and widths. What stands in the lines is present.conversations' affair.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from rich.cells import cell_len, chop_cells

from sundog.ir.conversations.transcript import RowConversations
from sundog.present.conversations import Block, ShownConversation, left_out, more_of, shown_conversations, visible

MIN_WIDTH = 20
INDENT = "    "


class Line(NamedTuple):
    """One line."""

    text: str
    #: It says whose words follow.
    is_head: bool = False


def conversation_lines(row: RowConversations, width: int, *, is_full: bool) -> Iterator[Line]:
    """Yield lines of at most `width` cells of a terminal, or of MIN_WIDTH."""
    width = max(MIN_WIDTH, width)
    yield from _wrapped(f"row {row.row} of run {row.run}: {row.state}", width, "", is_head=True)
    shown = shown_conversations(row, is_full=is_full)
    for one in shown:
        yield Line("")
        yield from _conversation(one, width)
    if row.kept.num_left_out:
        yield from _wrapped(f"({row.kept.num_left_out:,} more conversations are not kept)", width, "")
    if more := more_of(row, shown, is_full=is_full):
        yield Line("")
        yield from _wrapped(f"more of the texts: {more}", width, "")


def _conversation(one: ShownConversation, width: int) -> Iterator[Line]:
    yield from _wrapped(one.title, width, "", is_head=True)
    if one.facts:
        yield from _wrapped(one.facts, width, "")
    for block in one.blocks:
        yield Line("")
        yield from _block(block, width)
    if one.num_left_out:
        yield Line("")
        yield from _wrapped(f"({one.num_left_out:,} more things were said and are not kept)", width, "  ")


def _block(block: Block, width: int) -> Iterator[Line]:
    facts = f" ({block.facts})" if block.facts else ""
    yield from _wrapped(f"{block.head}{facts}", width, "  ", is_head=True)
    if block.text:
        yield from _wrapped(block.text, width, INDENT)
    if block.num_left_out:
        yield from _wrapped(left_out(block.num_left_out), width, INDENT)


def _wrapped(text: str, width: int, indent: str, *, is_head: bool = False) -> Iterator[Line]:
    room = width - len(indent)
    for line in visible(text).split("\n"):
        pieces = textwrap.wrap(line, room, replace_whitespace=False, drop_whitespace=True) or [""]
        for piece in pieces:
            # Letters of some scripts are two cells wide.
            for part in [piece] if cell_len(piece) <= room else chop_cells(piece, room):
                yield Line(f"{indent}{part}".rstrip(), is_head)
