"""The pieces of an answer's text, so that each one can be written as UTF-8.

Owns halves of surrogate pairs: an engine may cut a pair between two pieces.
"""

from __future__ import annotations

from sundog.ir.values.normal_form import whole_text


class WholePieces:
    """This class holds back the first half of a pair until the second one comes."""

    def __init__(self) -> None:
        self._half = ""

    def feed(self, piece: str) -> str:
        """Return what can be sent of the text so far."""
        if not self._half and piece.isascii():
            return piece
        text = self._half + piece
        is_half = "\ud800" <= text[-1:] <= "\udbff"
        self._half = text[-1] if is_half else ""
        return whole_text(text[:-1] if is_half else text)

    def end(self) -> str:
        """Return the rest; a half that stayed alone is U+FFFD."""
        rest, self._half = self._half, ""
        return whole_text(rest)
