"""The parts of an answer, whatever the pieces in which it comes."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.engines.openai.protocol.json_text import parse_json
from sundog.errors import BadResponse, EngineError, EngineUnavailable
from sundog.serve.wire.answer_parts import AnswerParts, PartBegun, PartEnded, PartGrown, PartStep
from tests.serve.wire.scripted_chat import begun_call, call, completion, delta, finish, more_call

A = PartBegun("call", "a", "f")
B = PartBegun("call", "b", "g")
END = PartEnded()


def steps_of(*chunks: dict[str, Any], reason: str = "stop") -> list[PartStep]:
    parts = AnswerParts()
    return [step for chunk in [*chunks, *finish(reason)] for step in parts.feed(chunk)] + parts.end()


def merged(steps: list[PartStep]) -> list[PartStep]:
    """Return the steps with neighbouring growth joined."""
    found: list[PartStep] = []
    for step in steps:
        if isinstance(step, PartGrown) and found and isinstance(found[-1], PartGrown):
            found[-1] = PartGrown(found[-1].text + step.text)
        else:
            found.append(step)
    return found


CASES: dict[str, tuple[list[dict[str, Any]], list[PartStep]]] = {
    "text": (
        [delta(role="assistant", content=""), delta(content="a"), delta(content="b")],
        [PartBegun("text"), PartGrown("a"), PartGrown("b"), END],
    ),
    "thinking before text": (
        [delta(reasoning="t", reasoning_content="t"), delta(content="a")],
        [PartBegun("reasoning"), PartGrown("t"), END, PartBegun("text"), PartGrown("a"), END],
    ),
    "a refusal": ([delta(refusal="no")], [PartBegun("refusal"), PartGrown("no"), END]),
    "content in parts": (
        [delta(content=[{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "r"}])],
        [PartBegun("text"), PartGrown("a"), END, PartBegun("refusal"), PartGrown("r"), END],
    ),
    "a whole call in one delta": ([begun_call(0, "a", "f", '{"x":1}')], [A, PartGrown('{"x":1}'), END]),
    "a call in pieces": (
        [begun_call(0, "a", "f"), more_call(0, '{"x"'), more_call(0, ":1}")],
        [A, PartGrown('{"x"'), PartGrown(":1}"), END],
    ),
    "a call without arguments": ([begun_call(0, "a", "f")], [A, PartGrown("{}"), END]),
    "a second call is told as soon as the first is whole": (
        [begun_call(0, "a", "f", "{}"), begun_call(1, "b", "g", "{"), more_call(1, "}")],
        [A, PartGrown("{}"), END, B, PartGrown("{"), PartGrown("}"), END],
    ),
    "calls mixed: the second waits": (
        [begun_call(0, "a", "f"), begun_call(1, "b", "g"), more_call(1, "{"), more_call(0, "{}"), more_call(1, "}")],
        [A, PartGrown("{}"), END, B, PartGrown("{"), PartGrown("}"), END],
    ),
    "text in the middle of a call waits": (
        [begun_call(0, "a", "f", "{"), delta(content="x"), more_call(0, "}")],
        [A, PartGrown("{"), PartGrown("}"), END, PartBegun("text"), PartGrown("x"), END],
    ),
    "a call whose name comes late": (
        [delta(tool_calls=[{"index": 0, "id": "a"}]), delta(tool_calls=[{"index": 0, "function": {"name": "f"}}])],
        [A, PartGrown("{}"), END],
    ),
    "a call without id": (
        [delta(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": "{}"}}])],
        [PartBegun("call", "", "f"), PartGrown("{}"), END],
    ),
    "halves of a surrogate pair": (
        [delta(content="a\ud83d"), delta(content="\ude00"), delta(content="\ud83d")],
        [PartBegun("text"), PartGrown("a"), PartGrown("\U0001f600"), PartGrown("\ufffd"), END],
    ),
    "another choice": ([{"choices": [{"index": 1, "delta": {"content": "x"}}]}], []),
}


@pytest.mark.parametrize("name", CASES)
def test_the_steps_of_an_answer(name: str) -> None:
    chunks, steps = CASES[name]
    assert steps_of(*chunks) == steps


def test_a_call_that_was_cut_keeps_what_it_has() -> None:
    assert steps_of(begun_call(0, "a", "f"), reason="length") == [A, END]
    first = [A, PartGrown("{}"), END]
    assert steps_of(begun_call(0, "a", "f"), begun_call(1, "b", "g", "{"), reason="length") == [
        *first, B, PartGrown("{"), END,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("stop", "stop"), ("length", "length"), ("tool_calls", "tool_calls"), ("function_call", "tool_calls"),
        ("content_filter", "content_filter"), ("repetition", "length"), ("eos", "stop"),
    ],
)  # fmt: skip
def test_reasons_for_an_end(told: str, reason: str) -> None:
    parts = AnswerParts()
    parts.feed(completion(told, content="x"))
    parts.end()
    assert parts.end_reason == reason


def test_a_call_asked_for_by_name_ends_as_a_call() -> None:
    parts = AnswerParts()
    parts.feed(completion("stop", content=None, tool_calls=[call("a", "f", "{}")]))
    parts.end()
    assert parts.end_reason == "tool_calls"


@pytest.mark.parametrize(
    ("chunk", "error"),
    [
        ({"error": {"message": "gone", "code": 500}}, EngineUnavailable),
        (completion("abort", content="x"), BadResponse),
        (completion("because", content="x"), BadResponse),
        (delta(content=3), BadResponse),
        (delta(tool_calls={"a": 1}), BadResponse),
        ({"choices": 3}, BadResponse),
        ({"choices": ["x"]}, BadResponse),
    ],
)
def test_what_is_no_answer_is_an_error(chunk: dict[str, Any], error: type[EngineError]) -> None:
    with pytest.raises(error):
        AnswerParts().feed(chunk)


def test_an_answer_without_an_end_broke_off() -> None:
    parts = AnswerParts()
    parts.feed(delta(content="x"))
    with pytest.raises(BadResponse, match="broke off"):
        parts.end()


def test_a_call_without_a_name_is_an_error() -> None:
    with pytest.raises(BadResponse, match="name"):
        steps_of(more_call(0, "{}"))


def test_more_of_a_call_that_has_ended_is_an_error() -> None:
    with pytest.raises(BadResponse, match="after its end"):
        steps_of(begun_call(0, "a", "f", "{}"), begun_call(1, "b", "g"), more_call(0, '{"x":1}'))


def test_a_call_is_judged_once_while_others_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[bytes] = []

    def judge(data: bytes) -> Any:
        judged.append(data)
        return parse_json(data)

    monkeypatch.setattr("sundog.serve.wire.answer_parts.parse_json", judge)
    waiting = [begun_call(1, "b", "g", "["), *[more_call(1, "1,")] * 50]
    steps = steps_of(begun_call(0, "a", "f", "{"), *waiting, more_call(0, "}"))
    assert merged(steps) == [A, PartGrown("{}"), END, B, PartGrown("[" + "1," * 50), END]
    assert judged == [b"{", b"{}"]


@st.composite
def cut(draw: st.DrawFn, text: str) -> list[str]:
    edges = [0, *sorted(draw(st.lists(st.integers(0, len(text)), max_size=4))), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


ARGUMENTS = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=6) | st.none(), max_size=3)


@st.composite
def answers(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Draw a whole message, and chunks of it in which the pieces of calls are mixed."""

    thought, text = draw(st.text(max_size=8)), draw(st.text(max_size=12))
    arguments = [json.dumps(one, ensure_ascii=False) for one in draw(st.lists(ARGUMENTS, max_size=3))]
    calls = [call(f"id{number}", f"f{number}", one) for number, one in enumerate(arguments)]
    chunks = [delta(reasoning=piece) for piece in draw(cut(thought))]
    chunks += [delta(content=piece) for piece in draw(cut(text))]
    heads = [begun_call(number, f"id{number}", f"f{number}") for number in range(len(calls))]
    waiting = [[more_call(number, piece) for piece in draw(cut(one))] for number, one in enumerate(arguments)]
    if draw(st.booleans()):
        chunks += heads
    else:
        waiting = [[head, *pieces] for head, pieces in zip(heads, waiting, strict=True)]
        chunks += [queue.pop(0) for queue in waiting]
    while queues := [queue for queue in waiting if queue]:
        chunks.append(queues[draw(st.integers(0, len(queues) - 1))].pop(0))
    reason = "tool_calls" if calls else "stop"
    return completion(reason, content=text, reasoning=thought, tool_calls=calls), [*chunks, *finish(reason)]


@given(answers())
def test_an_answer_in_pieces_is_the_whole_answer(answer: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    whole, chunks = answer
    first, second = AnswerParts(), AnswerParts()
    expected = first.feed(whole) + first.end()
    found = [step for chunk in chunks for step in second.feed(chunk)] + second.end()
    assert merged(found) == merged(expected)
    assert second.end_reason == first.end_reason
    assert second.usage == first.usage
