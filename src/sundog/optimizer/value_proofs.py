"""The proof that equal calls come from rows with one partition value.

A call proves it where its payload holds the value itself, by a plain reference in the step's own templates:

- as a value of JSON: an argument that is nothing but `{{ row.value }}`;
- in a text, behind fixed text only, and before nothing else or before fixed text that occurs once in what follows: so
  the payload alone tells the value's text. A text that another value could show (1 and "1", null and "", true and
  "True") proves nothing.

Nor does a payload that another step could have made, unless that holds the value at the same place in the same way.
All this is seen on the call itself: a step may prove some calls and not others. Nothing is proven by a filter's
outcome, an answer, a part of a message, or what a longer path leads to.

Owns what a payload proves. Never renders anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sundog.ir.templates.template import Path, Reference
from sundog.operators.base import HeldTemplate, PayloadPlace
from sundog.optimizer.payload_shapes import KnownPayload, PayloadShape, Pieces, TextShape, value_at

_SHOWN_FIRST = frozenset("0123456789-[{")
_SHOWN = frozenset({"", "True", "False", "true", "false"})
"""A text that begins so, or is one of these, may show a value that is no text."""


@dataclass(frozen=True, slots=True)
class ValueProof:
    """The place of the partition value in a payload."""

    place: PayloadPlace
    #: False where the value itself stands there.
    is_text: bool
    #: The fixed text before the value.
    begin: str = ""
    #: The fixed text behind the value, where more follows; None where only `end` does.
    behind: str | None = None
    #: The fixed text at the very end.
    end: str = ""
    #: The payloads that other steps can make.
    others: tuple[PayloadShape, ...] = ()

    @property
    def is_certain(self) -> bool:
        """Return whether each call of the step proves the value."""
        return not self.is_text and not self.others

    def proves(self, payload: Any) -> bool:
        """Return whether all calls with this payload, which is of the step, have one partition value."""
        return (not self.is_text or self._shows(payload)) and not any(one.matches(payload) for one in self.others)

    def _shows(self, payload: Any) -> bool:
        text = value_at(payload, self.place)
        if not isinstance(text, str):
            return False
        shown = text[len(self.begin) : len(text) - len(self.end)]
        if self.behind is not None:
            at = shown.find(self.behind)
            if at != shown.rfind(self.behind):
                return False
            shown = shown[:at]
        return shown not in _SHOWN and shown[0] not in _SHOWN_FIRST


def value_proofs(known: KnownPayload, partition: Path) -> Iterator[ValueProof]:
    """Yield the places at which a step's payloads hold the value at `partition`, values of JSON first."""
    held = () if known.form is None else known.form.held
    for one in sorted(held, key=lambda one: one.is_text):
        pieces = known.pieces[one.place]
        if one.is_text:
            yield from _in_text(one, pieces, Reference(partition))
        elif pieces == (Reference(partition),):
            yield ValueProof(one.place, is_text=False)


def _in_text(held: HeldTemplate, pieces: Pieces, own: Reference) -> Iterator[ValueProof]:
    shape = TextShape.of(pieces)
    left = pieces[1:] if shape.begin else pieces
    if shape.is_fixed or left[0] != own:
        return
    match left[1:]:
        case () | (str(),):
            yield ValueProof(held.place, True, shape.begin, None, shape.end)
        case (str() as behind, *others):
            inner = others[:-1] if shape.end else others
            if not any(isinstance(piece, str) and behind in piece for piece in inner):
                yield ValueProof(held.place, True, shape.begin, behind, shape.end)


def why_no_proof(known: KnownPayload, partition: Path, shown: str) -> str:
    """Return why a step's calls prove nothing, as a phrase; `shown`: the partition value as users write it."""
    if known.form is None:
        return "nothing is known of what its calls hold"
    is_held = any(partition in one.template.paths for one in known.form.held)
    return f"its calls do not show where {shown} ends" if is_held else f"its calls do not hold {shown} itself"
