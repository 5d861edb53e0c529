"""Events as bytes, and chunks read from bytes that are cut at any place."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.errors import BadResponse
from sundog.serve.wire.sse import DONE_EVENT, KEEP_ALIVE, ChunkReader, event_bytes

TEXTS = st.text(max_size=12)
CHUNKS = st.lists(st.dictionaries(TEXTS, TEXTS | st.integers() | st.none(), max_size=3), max_size=5)


@pytest.mark.parametrize(
    ("data", "names", "sent"),
    [
        ({"a": 1}, {}, b'data: {"a":1}\n\n'),
        ("[DONE]", {}, DONE_EVENT),
        ("a\nb\r\nc\rd", {}, b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
        ({"a": "\u2028\n\ud83d"}, {"event": "e", "id": "7"}, b'event: e\nid: 7\ndata: {"a":"\\u2028\\n\\ud83d"}\n\n'),
    ],
)
def test_an_event_is_written(data: Any, names: dict[str, str], sent: bytes) -> None:
    assert event_bytes(data, **names) == sent


@pytest.mark.parametrize("names", [{"event": "a\nb"}, {"id": "a\rb"}, {"id": "a\0"}])
def test_a_name_of_two_lines_is_none(names: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="one line"):
        event_bytes("x", **names)


@given(CHUNKS, st.lists(st.integers(0, 400), max_size=8))
def test_chunks_are_read_whatever_the_cuts(chunks: list[dict[str, Any]], cuts: list[int]) -> None:
    sent = KEEP_ALIVE.join([b"", *map(event_bytes, chunks), DONE_EVENT])
    edges = [0, *sorted(cut for cut in cuts if cut < len(sent)), len(sent)]
    reader = ChunkReader()
    found = [one for start, end in pairwise(edges) for one in reader.feed(sent[start:end])]
    assert found + reader.end() == chunks
    assert reader.is_done


def test_the_end_of_a_stream_ends_its_last_event() -> None:
    reader = ChunkReader()
    assert reader.feed(b'data: {"a":1}') == []
    assert reader.end() == [{"a": 1}]
    assert not reader.is_done


def test_nothing_is_read_after_done() -> None:
    reader = ChunkReader()
    assert reader.feed(DONE_EVENT + event_bytes({"a": 1})) == []
    assert reader.feed(event_bytes({"a": 1})) == []


@pytest.mark.parametrize("data", ["[1]", "{", json.dumps("x")])
def test_an_event_that_is_no_object_is_a_bad_response(data: str) -> None:
    with pytest.raises(BadResponse):
        ChunkReader().feed(event_bytes(data))
