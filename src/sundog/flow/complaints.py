"""The complaints about a flow, collected so that a user sees all of them at once.

Owns the list of complaints and the one FlowError made of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sundog.errors import FlowError, Location


def with_article(noun: str) -> str:
    """Return a noun with its article.

    >>> with_article("agent"), with_article("loop")
    ('an agent', 'a loop')
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that is wrong with a flow: what, where, and what to do about it."""

    what: str
    where: Location
    hint: str | None = None
    #: It is told before all others, which may follow from it.
    comes_first: bool = False

    def __str__(self) -> str:
        return str(FlowError(self.what, where=self.where, hint=self.hint))


class Complaints:
    """This class collects what is wrong with one flow; the same complaint counts once."""

    def __init__(self) -> None:
        self._found: dict[Complaint, None] = {}

    def add(self, what: str, where: Location, hint: str | None = None, *, comes_first: bool = False) -> None:
        self._found[Complaint(what, where, hint, comes_first)] = None

    def raise_if_any(self) -> None:
        """Raise FlowError with everything found, in the order of the file behind what comes first; its place is that of
        the first."""
        if not self._found:
            return
        first, *others = sorted(self._found, key=_order)
        if not others:
            raise FlowError(first.what, where=first.where, hint=first.hint)
        text = first.what if first.hint is None else f"{first.what}\n  {first.hint}"
        raise FlowError("\n".join([text, *map(str, others)]), where=first.where)


def _order(found: Complaint) -> tuple[bool, int, int]:
    return (not found.comes_first, found.where.line, found.where.column)
