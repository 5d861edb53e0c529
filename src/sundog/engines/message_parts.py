"""The parts of a message that is more than text: images and files, known by the hash of what they hold.

Owns the data, and an estimate of their tokens. Whoever makes a part knows how its bytes are read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from typing import Literal

from sundog.tokens import CHARACTERS_PER_TOKEN

Detail = Literal["auto", "low", "high"]
PartKind = Literal["image", "file"]
LOW_IMAGE_TOKENS = 85
TILE_TOKENS = 170
TILE_PIXELS = 512
UNKNOWN_TILES = 4
"""Tiles of a picture whose size is not known."""
FILE_BYTES_PER_TOKEN = 16
"""A page of a PDF has some ten thousand bytes, and about as many hundred tokens; it is a guess."""


def _no_bytes() -> bytes:
    return b""


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text."""

    text: str


@dataclass(frozen=True, slots=True)
class UnreadPart:
    """A picture or a document that nobody has looked at yet: no engine is given one."""

    kind: PartKind
    #: A path in the flow's folder, an address, or bytes in base64.
    source: str
    detail: Detail | None = None


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
    #: Returns what the picture holds; CallError where that is no longer what it was.
    read: Callable[[], bytes] = field(default=_no_bytes, compare=False, repr=False)
    #: Width and height in pixels, None for a url.
    size: tuple[int, int] | None = None

    @property
    def num_tokens(self) -> int:
        """Return an estimate, as OpenAI counts its older models' tokens."""
        if self.detail == "low":
            return LOW_IMAGE_TOKENS
        num_tiles = UNKNOWN_TILES if self.size is None else _num_tiles(*self.size)
        return LOW_IMAGE_TOKENS + TILE_TOKENS * num_tiles


@dataclass(frozen=True, slots=True)
class FilePart:
    """A document that the server reads."""

    #: As hexadecimal digits.
    sha256: str
    media_type: str
    name: str
    #: As of ImagePart.
    read: Callable[[], bytes] = field(default=_no_bytes, compare=False, repr=False)
    num_bytes: int = 0


MessagePart = TextPart | UnreadPart | ImagePart | FilePart


def part_text(part: MessagePart) -> str:
    """Return the text of a part, and for what is none a text that differs where the content does."""
    match part:
        case TextPart(text=text):
            return text
        case UnreadPart(kind=kind, source=source):
            return f"[{kind} {source}]"
        case ImagePart(sha256=sha256, url=url, detail=detail):
            return f"[image {sha256 or url} {detail or ''}]"
        case FilePart(sha256=sha256, name=name):
            return f"[file {name} {sha256}]"


def part_tokens(part: MessagePart) -> int:
    """Return an estimate of the tokens of a part."""
    match part:
        case TextPart(text=text):
            return len(text) // CHARACTERS_PER_TOKEN
        case UnreadPart(kind="image", detail=detail):
            return ImagePart(detail=detail).num_tokens
        case UnreadPart():
            return FilePart("", "", "", num_bytes=2**16).num_bytes // FILE_BYTES_PER_TOKEN
        case ImagePart():
            return part.num_tokens
        case FilePart(num_bytes=num_bytes):
            return num_bytes // FILE_BYTES_PER_TOKEN + 1


def _num_tiles(width: int, height: int) -> int:
    """Return the tiles of a picture that is made to fit into 2,048 by 2,048 pixels, its shorter side into 768."""
    scale = min(1.0, 2048 / max(width, height), 768 / min(width, height))
    scaled = (max(1.0, side * scale) for side in (width, height))
    across, down = (ceil(side / TILE_PIXELS) for side in scaled)
    return across * down
