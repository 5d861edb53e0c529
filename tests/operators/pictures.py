"""Small pictures, as the first bytes of real ones."""

from __future__ import annotations

import struct


def png(width: int = 100, height: int = 50, rest: bytes = b"") -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\x02\0\0\0" + rest


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0"


def jpeg(width: int, height: int) -> bytes:
    exif = b"\xff\xe1" + struct.pack(">H", 10) + b"\xff\xc0abcdef"
    return b"\xff\xd8" + exif + b"\xff\xff\xc2\0\x11\x08" + struct.pack(">HH", height, width) + b"\x03"


def webp(form: bytes, width: int, height: int) -> bytes:
    head = b"RIFF\0\0\0\0WEBP" + form + b"\0\0\0\0"
    if form == b"VP8 ":
        return head + b"\0" * 6 + struct.pack("<HH", width, height)
    if form == b"VP8L":
        return head + b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return head + b"\0" * 4 + sizes
