"""What the agent's notes are made of, and the one tool that is a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Note = Mapping[str, Any]


def add_up(notes: Sequence[Note] | None) -> int:
    """What all products cost together that have been looked up so far, in euros."""
    prices = {note["product"]: note["found"]["euros"] for note in notes or () if note["action"] == "look_up"}
    return sum(prices.values())


def remember(
    notes: Sequence[Note] | None, action: str, product: str, rows: Sequence[Mapping[str, Any]] | None, total: int | None
) -> dict[str, Any]:
    """{notes, is_new}: the notes of the turns before and what the tool of this turn has found, if that is new."""
    before = list(notes or ())
    new: Note | None = None
    if action == "look_up" and rows:
        new = {"action": action, "product": product, "found": rows[0]}
    elif action == "add_up":
        new = {"action": action, "total": total}
    is_new = new is not None and new not in before
    return {"notes": [*before, new] if is_new else before, "is_new": is_new}
