"""The parts of a message that is more than text: images and files, known by the hash of what they hold.

Owns the data. Never reads a file: whoever makes a part has its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Detail = Literal["auto", "low", "high"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture. Exactly one of `sha256` and `url` is set."""

    #: As hexadecimal digits; two paths with equal content are one picture.
    sha256: str = ""
    #: As in "image/png"; empty for a url.
    media_type: str = ""
    #: An address that the server reads by itself.
    url: str = ""
    detail: Detail | None = None
    data: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class FilePart:
    """A document that the server reads."""

    #: As hexadecimal digits.
    sha256: str
    media_type: str
    name: str
    data: bytes = field(default=b"", compare=False, repr=False)


MessagePart = TextPart | ImagePart | FilePart


def part_text(part: MessagePart) -> str:
    """Return the text of a part, and for what is none a text that differs where the content does."""
    match part:
        case TextPart(text=text):
            return text
        case ImagePart(sha256=sha256, url=url, detail=detail):
            return f"[image {sha256 or url} {detail or ''}]"
        case FilePart(sha256=sha256, name=name):
            return f"[file {name} {sha256}]"
