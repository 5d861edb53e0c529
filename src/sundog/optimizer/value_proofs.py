"""The proof that equal calls come from rows with one partition value.

A call proves it where its payload holds the value itself, by a plain reference in the step's own templates:

- as a value of JSON: an argument that is nothing but `{{ row.value }}`;
- in a text, behind fixed text only, and before nothing else or before fixed text that occurs once in what follows: so
  the payload alone tells the value's text. A text that another value could show (1 and "1", null and "", true and
  "True") proves nothing.

The second is seen on the call itself: a step may prove some calls and not others, and of equal calls all or none.
Nothing is proven by a filter's outcome, an answer, a part of a message or a value that a longer path leads to.

Owns what a payload proves, and which payloads can be equal. Never renders anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sundog.ir.templates.template import Literal, Path, Reference, Segment, Template
from sundog.operators.base import HeldTemplate, PayloadForm, PayloadPlace

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

    def proves(self, payload: Any) -> bool:
        """Return whether all calls with this payload have one partition value. `payload` is of the step."""
        if not self.is_text:
            return True
        text = payload
        for key in self.place:
            text = text[key]
        if not isinstance(text, str):
            return False
        shown = text[len(self.begin) : len(text) - len(self.end)]
        if self.behind is not None:
            at = shown.find(self.behind)
            if at != shown.rfind(self.behind):
                return False
            shown = shown[:at]
        return shown not in _SHOWN and shown[0] not in _SHOWN_FIRST


@dataclass(frozen=True, slots=True)
class KnownText:
    """A template by the texts that all rows have at its begin and at its end."""

    held: HeldTemplate
    begin: str
    end: str

    def may_equal(self, other: KnownText) -> bool:
        """Return whether two rows may have one text here. Values that are no text may be equal always."""
        if not (self.held.is_text and other.held.is_text):
            return True
        begins = self.begin.startswith(other.begin) or other.begin.startswith(self.begin)
        return begins and (self.end.endswith(other.end) or other.end.endswith(self.end))


@dataclass(frozen=True, slots=True)
class KnownPayload:
    """The payloads of a step's calls, as far as they are known."""

    operator: str
    form: PayloadForm | None
    #: By place.
    texts: Mapping[PayloadPlace, KnownText]
    #: Any of them will do.
    proofs: tuple[ValueProof, ...]

    def may_equal(self, other: KnownPayload) -> bool:
        """Return whether a call of this step and one of the other may be one call."""
        if self.operator != other.operator:
            return False
        if self.form is None or other.form is None:
            return True
        theirs = other.form.fixed
        if any(theirs.get(name, text) != text for name, text in self.form.fixed.items()):
            return False
        return all(text.may_equal(other.texts[place]) for place, text in self.texts.items() if place in other.texts)


class ProofFinder:
    """This class finds what the payloads of steps prove of the value at `partition`."""

    def __init__(self, partition: Path, constants: Mapping[str, Any]) -> None:
        self._own = Reference(partition)
        self._constants = {name: value for name, value in constants.items() if isinstance(value, str)}

    def payload(self, operator: str, form: PayloadForm | None) -> KnownPayload:
        held = () if form is None else form.held
        proofs = tuple(sorted(self._proofs(held), key=lambda proof: proof.is_text))
        return KnownPayload(operator, form, {one.place: self._text(one) for one in held}, proofs)

    def why_not(self, payload: KnownPayload, value: str) -> str:
        """Return why nothing is proven, as a phrase; `value` is the partition value as users write it."""
        if payload.form is None:
            return "nothing is known of what its calls hold"
        is_held = any(self._own.path in text.held.template.paths for text in payload.texts.values())
        return f"its calls do not show where {value} ends" if is_held else f"its calls do not hold {value} itself"

    def _proofs(self, held: tuple[HeldTemplate, ...]) -> Iterator[ValueProof]:
        for one in held:
            if not one.is_text:
                if one.template.segments == (self._own,):
                    yield ValueProof(one.place, is_text=False)
            elif (proof := self._proof_in_text(one)) is not None:
                yield proof

    def _proof_in_text(self, held: HeldTemplate) -> ValueProof | None:
        pieces, text = self._pieces(held.template), self._text(held)
        left = pieces[1 if text.begin else 0 :]
        if not left or left[0] != self._own:
            return None
        match left[1:]:
            case [] | [str()]:
                return ValueProof(held.place, True, text.begin, None, text.end)
            case [str() as behind, *others] if not any(
                isinstance(piece, str) and behind in piece for piece in (others[:-1] if text.end else others)
            ):
                return ValueProof(held.place, True, text.begin, behind, text.end)
        return None

    def _text(self, held: HeldTemplate) -> KnownText:
        pieces = self._pieces(held.template) or [""]
        begin, end = (piece if isinstance(piece, str) else "" for piece in (pieces[0], pieces[-1]))
        return KnownText(held, begin, end)

    def _pieces(self, template: Template) -> list[str | Segment]:
        """Return a template as fixed texts, none of them empty and no two side by side, and what rows decide."""
        pieces: list[str | Segment] = []
        for segment in template.segments:
            piece: str | Segment = segment
            match segment:
                case Literal(text=text):
                    piece = text
                case Reference(path=(name,)) if name in self._constants:
                    piece = self._constants[name]
            if isinstance(piece, str) and pieces and isinstance(pieces[-1], str):
                pieces[-1] += piece
            elif piece != "":
                pieces.append(piece)
        return pieces
