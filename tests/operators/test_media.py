"""Bytes are pictures by their type and size, or are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.engines.message_parts import ImagePart
from sundog.operators.media import image_type
from tests.operators.pictures import gif, jpeg, png, webp


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (png(640, 480), "image/png"),
        (gif(640, 480), "image/gif"),
        (jpeg(640, 480), "image/jpeg"),
        *((webp(form, 640, 480), "image/webp") for form in (b"VP8 ", b"VP8L", b"VP8X")),
    ],
)
def test_a_picture_has_a_type_and_a_size(data: bytes, media_type: str) -> None:
    assert image_type(data) == (media_type, (640, 480))
    assert image_type(data + b"rest") == (media_type, (640, 480))
    assert image_type(data[:8]) is None, "it ends before its size"


@pytest.mark.parametrize(
    "data", [b"", b"%PDF-1.7", b"<svg/>", b"BM6", png(0, 7), webp(b"ALPH", 1, 1), b"\xff\xd8\xff\xd9"]
)
def test_other_bytes_are_none(data: bytes) -> None:
    assert image_type(data) is None


@given(st.binary(max_size=60), st.sampled_from([b"", b"\xff\xd8\xff", png()[:16], b"RIFF\0\0\0\0WEBPVP8X", b"GIF87a"]))
def test_any_bytes_are_judged(data: bytes, begin: bytes) -> None:
    found = image_type(begin + data)
    assert found is None or min(found[1]) > 0


@pytest.mark.parametrize(
    ("size", "detail", "num_tokens"),
    [
        ((512, 512), None, 255),
        ((1024, 1024), "high", 765),
        ((2048, 4096), "auto", 1105),
        ((9000, 9000), "low", 85),
        (None, None, 765),
        ((100_000, 1), None, 85 + 4 * 170),
    ],
)
def test_tokens_follow_from_the_size(size: tuple[int, int] | None, detail: None, num_tokens: int) -> None:
    assert ImagePart(size=size, detail=detail).num_tokens == num_tokens
