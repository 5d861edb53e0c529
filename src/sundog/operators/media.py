"""Bytes are judged by what they begin with: pictures that servers take, and PDF documents.

Owns their signatures and sizes. Never reads a file, and never decodes a picture.
"""

from __future__ import annotations

import struct
from struct import unpack_from

TAKEN = "png, jpeg, gif and webp"


def image_type(data: bytes) -> tuple[str, tuple[int, int]] | None:
    """Return the media type of a picture, and its width and height; None where `data` is no picture that servers take,
    or ends before its size does."""
    try:
        found = _measured(data)
    except (struct.error, IndexError, ValueError):
        return None
    return found if found is not None and min(found[1]) > 0 else None


def is_pdf(data: bytes) -> bool:
    return data.startswith(b"%PDF-")


def _measured(data: bytes) -> tuple[str, tuple[int, int]] | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        return "image/png", unpack_from(">II", data, 16)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif", unpack_from("<HH", data, 6)
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg", _jpeg_size(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        size = _webp_size(data)
        return None if size is None else ("image/webp", size)
    return None


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Return what the first frame header says; IndexError or ValueError where there is none."""
    at = 2
    while True:
        at = data.index(b"\xff", at)
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        # Start of frame; 0xC4, 0xC8 and 0xCC are tables.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = unpack_from(">HH", data, at + 4)
            return width, height
        at += 1 if marker == 0x01 or 0xD0 <= marker <= 0xD8 else 1 + max(2, unpack_from(">H", data, at + 1)[0])


def _webp_size(data: bytes) -> tuple[int, int] | None:
    match data[12:16]:
        case b"VP8 ":
            width, height = unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (bits,) = unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            low_width, high_width, low_height, high_height = unpack_from("<HBHB", data, 24)
            return (low_width | high_width << 16) + 1, (low_height | high_height << 16) + 1
    return None
