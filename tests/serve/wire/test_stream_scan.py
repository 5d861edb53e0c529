"""Streams that pass through are watched for their tokens, their end and errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sundog.serve.wire.stream_scan as scanning
from sundog.engines.openai.protocol.json_text import parse_json
from sundog.serve.wire.stream_scan import ScannedEnd, StreamScan

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def chunk(text: str, finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice], "usage": None, **fields}


ENDED = {"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}
TRICKS = '"usage":{"x":1},"finish_reason":"no","error":{"message":"no"}'
EVENTS: list[dict[str, Any]] = [
    chunk("It is "),
    chunk(TRICKS),
    chunk("noon.", delta={"tool_calls": [{"function": {"arguments": TRICKS}}]}),
    chunk("", "stop"),
    {"id": "c", "choices": [], "usage": USAGE},
]


def stream(events: list[dict[str, Any]], *, is_compact: bool = True, gap: str = "\n\n") -> bytes:
    separators = (",", ":") if is_compact else (", ", ": ")
    lines = [f"data: {json.dumps(event, separators=separators, ensure_ascii=False)}{gap}" for event in events]
    return "".join([f": keep-alive{gap}", *lines, f"data: [DONE]{gap}"]).encode()


def scanned(*pieces: bytes) -> ScannedEnd:
    scan = StreamScan()
    for piece in pieces:
        scan.feed(piece)
    return scan.end()


@pytest.mark.parametrize("is_compact", [True, False])
@pytest.mark.parametrize("gap", ["\n\n", "\r\n\r\n", "\r\r", "\n"])
def test_the_end_of_a_stream(is_compact: bool, gap: str) -> None:
    assert scanned(stream(EVENTS, is_compact=is_compact, gap=gap)) == ScannedEnd(USAGE, "stop", False)


def test_splitting_a_stream_anywhere_gives_the_same() -> None:
    raw = stream(EVENTS)
    for at in range(len(raw) + 1):
        assert scanned(raw[:at], raw[at:]) == ScannedEnd(USAGE, "stop", False), at


@given(st.data(), st.sampled_from(["\n\n", "\r\n\r\n", "\r\r"]), st.booleans())
def test_any_pieces_give_the_same(data: st.DataObject, gap: str, has_error: bool) -> None:
    events = [*EVENTS, {"error": {"message": "out of memory", "code": 500}}] if has_error else EVENTS
    raw = stream(events, gap=gap)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert scanned(*pieces) == ScannedEnd(USAGE, "stop", has_error)


def test_lines_that_have_ended_are_not_kept() -> None:
    for gap in ("\n\n", "\r\n\r\n", "\r\r"):
        scan = StreamScan()
        scan.feed(stream(EVENTS, gap=gap) + b"data: ")
        assert scan._open == [b"data: "]


def test_byte_by_byte() -> None:
    raw = stream(EVENTS, is_compact=False)
    assert scanned(*(raw[at : at + 1] for at in range(len(raw)))) == ScannedEnd(USAGE, "stop", False)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], ScannedEnd()),
        ([chunk("cut")], ScannedEnd()),
        ([chunk("a", "stop"), chunk("b", "length")], ScannedEnd(None, "length")),
        ([chunk("a", "stop"), chunk("b", "")], ScannedEnd(None, "stop")),
        ([chunk("a", usage={"completion_tokens": 1}), chunk("b", "stop", usage=USAGE)], ScannedEnd(USAGE, "stop")),
        ([chunk("a"), {"error": {"message": "no"}}], ScannedEnd(None, None, True)),
        ([chunk("a"), {"error": "no"}], ScannedEnd(None, None, True)),
        ([chunk("a", error=None)], ScannedEnd()),
        ([{"type": "error", "error": {"type": "overloaded_error"}}], ScannedEnd(None, None, True)),
        ([{"type": "response.completed", "response": {"usage": USAGE, "error": None}}], ScannedEnd(USAGE)),
        ([{"choices": [{"delta": {}, "x": {"error": {"a": 1}}}]}], ScannedEnd()),
        ([{"choices": {"finish_reason": "stop"}, "x": {"usage": {}}}], ScannedEnd()),
    ],
)
def test_what_streams_tell(events: list[dict[str, Any]], expected: ScannedEnd) -> None:
    assert scanned(stream(events)) == expected
    assert scanned(stream(events, is_compact=False)) == expected


@pytest.mark.parametrize(
    "raw", [b'data: {"usage":{"a":1}', b'data: {"error":{"a":\n\n', b'data: "usage":{\n', b'\xff"usage":{\xff\n', b""]
)
def test_broken_events_tell_nothing(raw: bytes) -> None:
    assert scanned(raw) == ScannedEnd()


def test_a_last_line_may_lack_its_end() -> None:
    raw = stream(EVENTS[:-1])[: -len("data: [DONE]\n\n")] + f"data: {json.dumps({'usage': USAGE})}".encode()
    assert scanned(raw) == ScannedEnd(USAGE, "stop")


def test_only_the_last_events_that_say_something_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def counted(data: bytes) -> Any:
        parsed.append(data)
        return parse_json(data)

    monkeypatch.setattr(scanning, "parse_json", counted)
    events = [chunk(str(number), usage={"completion_tokens": number}) for number in range(1000)]
    raw = stream([*events, chunk("", "stop", usage=USAGE)])
    lines = raw.splitlines(keepends=True)
    assert scanned(*lines) == ScannedEnd(USAGE, "stop")
    assert len(parsed) == 2


def test_a_line_that_is_too_long_is_neither_kept_nor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    long = json.dumps({"pad": "x" * 1000, "usage": {"a": 1}}).encode()
    short = json.dumps({"choices": [{"finish_reason": "stop"}]}).encode()
    raw = b"data: " + long + b"\n\ndata: " + short + b"\n\n"
    assert scanned(raw) == ScannedEnd({"a": 1}, "stop")
    monkeypatch.setattr(scanning, "MAX_LINE_BYTES", 100)
    assert scanned(raw) == ScannedEnd(None, "stop")
    scan = StreamScan()
    for at in range(0, len(raw), 10):
        scan.feed(raw[at : at + 10])
        assert sum(map(len, scan._open)) <= 110
    assert scan.end() == ScannedEnd(None, "stop")


def passed(*pieces: bytes) -> tuple[bytes, ScannedEnd]:
    scan = StreamScan()
    shown = b"".join([*map(scan.passed, pieces), scan.last()])
    return shown, scan.end()


@given(st.data(), st.sampled_from(["\n\n", "\r\n\r\n"]), st.booleans())
def test_tokens_that_nobody_asked_for_are_left_out_and_known(data: st.DataObject, gap: str, is_compact: bool) -> None:
    raw = stream(EVENTS, gap=gap, is_compact=is_compact)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    shown, end = passed(*pieces)
    assert end == ScannedEnd(USAGE, "stop", False)
    untold = [{name: value for name, value in one.items() if name != "usage"} for one in EVENTS[:-1]]
    without = stream(untold, gap=gap, is_compact=is_compact)
    # Where a piece ends between an event and its empty line, that line may stay; it is no event.
    assert [line for line in shown.splitlines() if line] == [line for line in without.splitlines() if line]
    assert len(cuts) or shown == without


@pytest.mark.parametrize("event", [{**ENDED, "usage": USAGE}, {"usage": USAGE}, {"choices": []}])
def test_an_event_that_tells_anything_else_passes(event: dict[str, Any]) -> None:
    raw = stream([ENDED, event])
    assert passed(*raw.splitlines(keepends=True))[0] == raw


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (b'{"id":"c","usage":null,"choices":[]}', b'{"id":"c","choices":[]}'),
        (b'{"choices":[] , "usage" : null}', b'{"choices":[] }'),
        (b'{"usage": null, "choices":[]}', b'{"choices":[]}'),
        (b'{"choices":[{"delta":{"usage":null}}],"usage":null}', b'{"choices":[{"delta":{"usage":null}}]}'),
        (b'{"choices":[{"text":",\\"usage\\":null"}]}', b'{"choices":[{"text":",\\"usage\\":null"}]}'),
        (b'{"usage":nullable,"a":1}', b'{"usage":nullable,"a":1}'),
        (b'{"choices":[{"delta":{"usage":null}}]}', b'{"choices":[{"delta":{"usage":null}}]}'),
    ],
)
def test_a_field_of_tokens_that_are_not_there_is_left_out(told: bytes, shown: bytes) -> None:
    assert passed(b"data: " + told + b"\n\n")[0] == b"data: " + shown + b"\n\n"


def test_a_line_that_is_too_long_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "MAX_LINE_BYTES", 100)
    raw = stream([{**ENDED, "pad": "x" * 1000}, {"choices": [], "usage": {**USAGE, "pad": "x" * 500}}, ENDED])
    assert passed(*(raw[at : at + 10] for at in range(0, len(raw), 10)))[0] == raw
    assert passed(raw)[0] == raw


def test_a_last_event_of_tokens_may_lack_its_end() -> None:
    raw = b'data: {"choices":[{"finish_reason":"stop"}]}\n\n'
    usage = f"data: {json.dumps({'choices': [], 'usage': USAGE})}".encode()
    assert passed(raw, usage) == (raw, ScannedEnd(USAGE, "stop"))
    assert passed(raw, b"data: [DONE]") == (raw + b"data: [DONE]", ScannedEnd(None, "stop"))
