"""The lines of a batch's file: read a few at a time, each once, whatever is in the file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sundog.serve.batches import reading
from sundog.serve.batches.checking import LineCheck
from sundog.serve.batches.reading import RawLine, line_pages
from sundog.serve.wire.batches.lines import LineRules

RULES = LineRules("/v1/embeddings")


def pages_of(path: Path, content: bytes) -> list[list[RawLine]]:
    path.write_bytes(content)

    async def read() -> list[list[RawLine]]:
        return [page async for page in line_pages(path)]

    return asyncio.run(read())


def test_a_page_has_few_lines_and_few_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAGE_BYTES", 1000)
    lines = [b"x" * (number % 300) + b"y" for number in range(5000)]
    pages = pages_of(tmp_path / "lines", b"\n".join(lines))
    assert [line.raw for page in pages for line in page] == lines
    assert [line.number for page in pages for line in page] == list(range(1, 5001))
    assert max(sum(len(line.raw) for line in page) for page in pages) < 1000 + 301
    short = pages_of(tmp_path / "short", b"z\n" * 1000)
    assert [len(page) for page in short[:3]] == [256, 256, 256]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n\n \r\n", []),
        (b"a", [(1, b"a")]),
        (b"\xef\xbb\xbfa\r\nb\n", [(1, b"a"), (2, b"b")]),
        (b"\n a \n\nb", [(2, b"a"), (4, b"b")]),
        (b"a\x00b\n\xff", [(1, b"a\x00b"), (2, b"\xff")]),
    ],
)
def test_lines_are_numbered_as_editors_do(tmp_path: Path, content: bytes, expected: list[tuple[int, bytes]]) -> None:
    assert [(line.number, line.raw) for page in pages_of(tmp_path / "f", content) for line in page] == expected


def test_many_empty_lines_are_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAGE_BYTES", 100)
    found = [(line.number, line.raw) for page in pages_of(tmp_path / "f", b"\n" * 1000 + b"a") for line in page]
    assert found == [(1001, b"a")]


def test_a_line_that_is_too_long_is_passed_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_LINE_BYTES", 10)
    path = tmp_path / "f"
    content = b"0123456789\n0123456789a" + b"x" * 5000 + b"\nlast\n" + b"y" * 99
    found = [line for page in pages_of(path, content) for line in page]
    assert [(line.number, line.is_too_long) for line in found] == [(1, False), (2, True), (3, False), (4, True)]
    assert all(not line.raw for line in found if line.is_too_long)
    check = LineCheck(RULES)
    asyncio.run(check.read(path))
    assert [error["code"] for error in check.errors] == [
        "invalid_json_line",
        "line_too_long",
        "invalid_json_line",
        "line_too_long",
    ]
