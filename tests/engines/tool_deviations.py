"""The calls of tools as servers send them, each with the calls that sundog makes of it: a table as in `deviations`.

`expected` is a list of calls (id, name, arguments), or what the failure says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sundog.engines.base import FinishReason
from sundog.errors import BadResponse
from tests.engines.deviations import Bad, again, piece, sse, streamed, whole

Calls = list[tuple[str, str, str]]


@dataclass(frozen=True)
class CallDeviation:
    name: str
    body: bytes
    expected: Calls | Bad
    text: str = ""
    finish_reason: FinishReason = "tool_calls"


def delta(index: Any = 0, id: str | None = None, name: str | None = None, arguments: Any = None) -> dict[str, Any]:
    """One piece of one call, with what is not None."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    written = {"index": index, "id": id, "type": "function", "function": function}
    return {key: value for key, value in written.items() if value is not None}


def calls_of(*deltas: dict[str, Any]) -> dict[str, Any]:
    return {"tool_calls": list(deltas)}


def stream(*deltas: dict[str, Any], finish_reason: str = "tool_calls") -> bytes:
    """Each delta in an event of its own."""
    return streamed(*map(calls_of, deltas), finish_reason=finish_reason)


A, B = '{"order": 7}', '{"order": 8}'
ONE: Calls = [("a", "look", A)]
TWO: Calls = [("a", "look", A), ("b", "look", B)]
ONE_ID: Calls = [("a", "look", A), ("a", "look", B)]
BEGUN_A, BEGUN_B = delta(0, "a", "look", ""), delta(1, "b", "look", "")


def deviations() -> Iterator[CallDeviation]:
    pieces = [delta(arguments=A[start : start + 2]) for start in range(0, len(A), 2)]
    yield CallDeviation("as OpenAI does", stream(BEGUN_A, *pieces), ONE)
    yield CallDeviation("ends with stop, as a call by name", stream(BEGUN_A, *pieces, finish_reason="stop"), ONE)
    yield CallDeviation("two, one after the other", stream(delta(0, "a", "look", A), delta(1, "b", "look", B)), TWO)
    mixed = [BEGUN_B, BEGUN_A, delta(1, arguments=B[:5]), delta(0, arguments=A[:3])]
    mixed += [delta(0, arguments=A[3:]), delta(1, arguments=B[5:])]
    yield CallDeviation("two, their pieces mixed", stream(*mixed), TWO)
    both = streamed(calls_of(delta(0, "a", "look", A), delta(1, "b", "look", B)), finish_reason="tool_calls")
    yield CallDeviation("whole calls in one event", both, TWO)
    yield from without_an_index()
    yield from of_proxies()
    yield from whole_answers()
    yield from refused()


def without_an_index() -> Iterator[CallDeviation]:
    yield CallDeviation("no index, one", stream(delta(None, "a", "look", A[:4]), delta(None, arguments=A[4:])), ONE)
    two = stream(delta(None, "a", "look", A), delta(None, "b", "look", B))
    yield CallDeviation("no index, two", two, TWO)
    yield CallDeviation("index -1", stream(delta(-1, "a", "look", A[:4]), delta(-1, arguments=A[4:])), ONE)
    no_ids = stream(delta(None, None, "look", A), delta(None, None, "look", B))
    yield CallDeviation("neither index nor id, two", no_ids, [("", "look", A), ("", "look", B)])
    same = stream(delta(0, "a", "look", A), delta(0, "b", "look", B))
    yield CallDeviation("one index for both", same, TWO)
    one_id = stream(delta(0, "a", "look", A), delta(1, "a", "look", B[:5]), delta(1, arguments=B[5:]))
    yield CallDeviation("one id for both", one_id, ONE_ID)
    for index in (0, None):
        listed = stream(delta(index, "a", "look", A), delta(index, "a", "look", B))
        yield CallDeviation(f"one id for both, each with the index {index}", listed, ONE_ID)


def of_proxies() -> Iterator[CallDeviation]:
    with_ids = [delta(0, "a", "look", A[:4]), delta(0, "a", arguments=A[4:])]
    yield CallDeviation("the id in every piece", stream(*with_ids), ONE)
    named = [delta(0, "a", "look", A[:4]), delta(0, "a", "look", A[4:])]
    yield CallDeviation("id and name in every piece", stream(*named), ONE)
    yield CallDeviation("all of it once more at the end", stream(*with_ids, delta(0, "a", "look", A)), ONE)
    yield CallDeviation("another id in every piece", stream(BEGUN_A, delta(0, "x", arguments=A)), ONE)
    lost = stream(delta(0, arguments=A))
    yield CallDeviation("without id and name", lost, again(BadResponse, "without the tool's name"))
    yield CallDeviation("without an id", stream(delta(0, None, "look", A)), [("", "look", A)])


def whole_answers() -> Iterator[CallDeviation]:
    plain = {"id": "a", "type": "function", "function": {"name": "look", "arguments": A}}
    message = {"role": "assistant", "content": None, "tool_calls": [plain]}
    yield CallDeviation("whole", whole(message, "tool_calls"), ONE)
    yield CallDeviation("whole, ends with stop", whole(message, "stop"), ONE)
    other = {**plain, "id": "b", "function": {"name": "look", "arguments": B}}
    yield CallDeviation("whole, two", whole({**message, "tool_calls": [plain, other]}, "tool_calls"), TWO)
    for name, id in (("one id", "a"), ("empty ids", ""), ("no ids", None)):
        listed = [{**call, "id": id} for call in (plain, other, other)]
        three = [(id or "", "look", arguments) for arguments in (A, B, B)]
        yield CallDeviation(f"whole, {name}", whole({**message, "tool_calls": listed}, "tool_calls"), three)
    beside = whole({**message, "content": "Let me see."}, "tool_calls")
    yield CallDeviation("text beside calls", beside, ONE, "Let me see.")
    as_object = {"function": {"name": "look", "arguments": {"order": 7}}}
    yield CallDeviation("arguments as an object", whole({"tool_calls": [as_object]}), [("", "look", '{"order":7}')])
    empty = {"function": {"name": "look", "arguments": ""}}
    yield CallDeviation("no arguments", whole({"tool_calls": [empty]}), [("", "look", "{}")])
    no_object = {"function": {"name": "look", "arguments": [1]}}
    yield CallDeviation("arguments a list", whole({"tool_calls": [no_object]}), [("", "look", "[1]")])
    yield CallDeviation("an id that is a number", whole({"tool_calls": [{**plain, "id": 0}]}), [("0", "look", A)])
    old = whole({"content": None, "function_call": {"name": "look", "arguments": A}}, "function_call")
    yield CallDeviation("the older form", old, [("", "look", A)])
    yield CallDeviation("text alone", whole({"content": "moon up", "tool_calls": []}), [], "moon up", "stop")
    cut = whole({"tool_calls": [{"id": "a", "function": {"name": "look", "arguments": A[:5]}}]}, "length")
    yield CallDeviation("cut off", cut, [("a", "look", A[:5])], "", "length")
    begun = whole({"tool_calls": [empty, {"id": "a", "function": {"name": "look", "arguments": ""}}]}, "length")
    without = [("", "look", "{}"), ("a", "look", "")]
    yield CallDeviation("cut off before the arguments", begun, without, "", "length")


def refused() -> Iterator[CallDeviation]:
    none = again(BadResponse, "holds none")
    yield CallDeviation("tool_calls, and none", whole({"content": "moon up"}, "tool_calls"), none)
    yield CallDeviation("tool_calls, and none, streamed", streamed({"content": ""}, finish_reason="tool_calls"), none)
    call = {"function": {"name": "look", "arguments": A}}
    no = Bad(BadResponse, "the model refused: No.")
    yield CallDeviation("a refusal beside calls", whole({"tool_calls": [call], "refusal": "No."}, "tool_calls"), no)
    malformed = again(BadResponse, "malformed")
    yield CallDeviation("calls no list", whole({"tool_calls": {"0": call}}), malformed)
    yield CallDeviation("a call no object", whole({"tool_calls": ["look"]}), malformed)
    many = [delta(None, f"c{number}", "look", A) for number in range(200)]
    yield CallDeviation("more calls than any turn has", stream(*many), Bad(BadResponse, "more than 128 tools"))
    broken = sse(piece(calls_of(BEGUN_A)))
    yield CallDeviation("broke off in a call", broken, again(BadResponse, "broke off"))


CALLS = list(deviations())
