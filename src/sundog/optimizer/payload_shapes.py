"""The payloads of a step's calls by what is the same in all of them, and whether two steps may make one call.

Owns what of a payload is known before any row is, and how that is compared with one that is there. Renders nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sundog.ir.templates.template import Literal, Reference, Segment, Template
from sundog.operators.base import PayloadForm, PayloadPlace

Pieces = tuple[str | Segment, ...]
"""A template as fixed texts, none of them empty and no two side by side, and what rows decide."""
_VARYING = "\0"


def template_pieces(template: Template, constants: Mapping[str, Any]) -> Pieces:
    """Return the pieces of a template; constants that are texts are fixed."""
    pieces: list[str | Segment] = []
    for segment in template.segments:
        piece: str | Segment = segment
        match segment:
            case Literal(text=text):
                piece = text
            case Reference(path=(name,)) if isinstance(constants.get(name), str):
                piece = constants[name]
        if isinstance(piece, str) and pieces and isinstance(pieces[-1], str):
            pieces[-1] += piece
        elif piece != "":
            pieces.append(piece)
    return tuple(pieces)


@dataclass(frozen=True, slots=True)
class TextShape:
    """The texts that a template can give: they begin and end with fixed texts, and have others in between, in order."""

    begin: str
    inner: tuple[str, ...]
    end: str
    #: Nothing varies, and `end` is `begin`.
    is_fixed: bool

    @classmethod
    def of(cls, pieces: Pieces) -> TextShape:
        """Return the shape of a template."""
        fixed = [piece if isinstance(piece, str) else "" for piece in pieces]
        if len(pieces) < 2:
            text = "".join(fixed)
            return cls(text, (), text, is_fixed=not pieces or isinstance(pieces[0], str))
        return cls(fixed[0], tuple(text for text in fixed[1:-1] if text), fixed[-1], is_fixed=False)

    def matches(self, text: str) -> bool:
        """Return whether the template may give `text`."""
        if self.is_fixed:
            return text == self.begin
        if not (text.startswith(self.begin) and text.endswith(self.end)):
            return False
        at, stop = len(self.begin), len(text) - len(self.end)
        for piece in self.inner:
            found = text.find(piece, at, max(at, stop))
            if found < 0:
                return False
            at = found + len(piece)
        return at <= stop

    def may_meet(self, other: TextShape) -> bool:
        """Return whether some text may be of both shapes."""
        # A plan of thousands of steps asks this of all pairs.
        mine, theirs = self.begin, other.begin
        if not (mine.startswith(theirs) or theirs.startswith(mine)):
            return False
        return self.end.endswith(other.end) or other.end.endswith(self.end)


@dataclass(frozen=True, slots=True)
class PayloadShape:
    """The payloads that a step can make, as far as texts in them tell; no place matches any payload."""

    texts: tuple[tuple[PayloadPlace, TextShape], ...]

    def matches(self, payload: Any) -> bool:
        """Return whether the step may make `payload`, which is of a step of the same operator."""
        for place, shape in self.texts:
            text = value_at(payload, place)
            if not isinstance(text, str) or not shape.matches(text):
                return False
        return True


@dataclass(frozen=True, slots=True)
class KnownPayload:
    """The payloads of a step's calls, as far as they are known."""

    operator: str
    form: PayloadForm | None
    #: By place, of what is held there.
    pieces: Mapping[PayloadPlace, Pieces]
    #: By place, of what is held there as text.
    shapes: Mapping[PayloadPlace, TextShape] = field(init=False)

    def __post_init__(self) -> None:
        held = () if self.form is None else self.form.held
        shapes = {one.place: TextShape.of(self.pieces[one.place]) for one in held if one.is_text}
        object.__setattr__(self, "shapes", shapes)

    @property
    def shape(self) -> PayloadShape:
        return PayloadShape(tuple(self.shapes.items()))

    @classmethod
    def of(cls, operator: str, form: PayloadForm | None, constants: Mapping[str, Any]) -> KnownPayload:
        """Return what is known of a step's payloads, by its operator and what that says of them."""
        held = () if form is None else form.held
        return cls(operator, form, {one.place: template_pieces(one.template, constants) for one in held})

    def may_equal(self, other: KnownPayload) -> bool:
        """Return whether some call of this step may be one of the other."""
        if self.operator != other.operator:
            return False
        if self.form is None or other.form is None:
            return True
        if self.form.fixed != other.form.fixed:
            theirs = other.form.fixed
            if any(theirs.get(name, text) != text for name, text in self.form.fixed.items()):
                return False
        for place, shape in self.shapes.items():
            their = other.shapes.get(place)
            if their is not None and not shape.may_meet(their):
                return False
        return True

    def covers(self, other: KnownPayload) -> bool:
        """Return whether each call of the other step may be one of this step, as far as is known."""
        return all(shape.matches(_skeleton(other.pieces.get(place, ()))) for place, shape in self.shapes.items())


def value_at(payload: Any, place: PayloadPlace) -> Any:
    """Return what stands at a place of a payload, None where nothing does."""
    found = payload
    for key in place:
        try:
            found = found[key]
        except (KeyError, IndexError, TypeError):
            return None
    return found


def _skeleton(pieces: Pieces) -> str:
    return "".join(piece if isinstance(piece, str) else _VARYING for piece in pieces)
