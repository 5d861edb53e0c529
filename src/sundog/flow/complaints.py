"""The complaints about a flow, collected so that a user sees all of them at once.

Owns the list of complaints and the one FlowError made of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sundog.errors import FlowError, Location


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that is wrong with a flow: what, where, and what to do about it."""

    what: str
    where: Location
    hint: str | None = None

    def __str__(self) -> str:
        return str(FlowError(self.what, where=self.where, hint=self.hint))


class Complaints:
    """This class collects what is wrong with one flow; the same complaint counts once."""

    def __init__(self) -> None:
        self._found: dict[Complaint, None] = {}

    def add(self, what: str, where: Location, hint: str | None = None) -> None:
        self._found[Complaint(what, where, hint)] = None

    def raise_if_any(self) -> None:
        """Raise FlowError with everything found, in the order of the file; its place is that of the first."""
        if not self._found:
            return
        first, *others = sorted(self._found, key=lambda found: (found.where.line, found.where.column))
        if not others:
            raise FlowError(first.what, where=first.where, hint=first.hint)
        text = first.what if first.hint is None else f"{first.what}\n  {first.hint}"
        raise FlowError("\n".join([text, *map(str, others)]), where=first.where)
