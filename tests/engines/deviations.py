"""The answers that servers send in practice, each with what sundog makes of it: the table of test_deviations.

Owns the bodies. `streamed` and `whole` make the two forms of one answer, so that most entries stand for both.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sundog.engines.base import FinishReason, Usage
from sundog.errors import (
    BadResponse,
    EngineError,
    EngineOverloaded,
    EngineTimeout,
    EngineUnavailable,
    PromptTooLong,
)

EVENTS, JSON = "text/event-stream", "application/json"
TOLD = {"prompt_tokens": 7, "completion_tokens": 3}
DEEP = "[" * 3000 + "]" * 3000
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Good:
    """The answer counts."""

    text: str = "moon up"
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=lambda: Usage(7, 3))


@dataclass(frozen=True)
class Bad:
    """The call fails, with `says` in its message or hint."""

    kind: type[EngineError]
    says: str
    retryable: bool = False


@dataclass(frozen=True)
class Deviation:
    name: str
    body: bytes
    expected: Good | Bad
    content_type: str = EVENTS
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Raw(str):
    """JSON as it is sent, which json.dumps would not write."""


def again(kind: type[EngineError], says: str) -> Bad:
    return Bad(kind, says, retryable=True)


def as_json(value: Any) -> str:
    return value if isinstance(value, Raw) else json.dumps(value)


def sse(*events: Any, end: bytes = DONE) -> bytes:
    """Events as JSON values, or as the text of their data."""
    return b"".join(f"data: {as_json(one)}\n\n".encode() for one in events) + end


def piece(delta: Any, finish_reason: Any = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def counted(usage: Any) -> Raw:
    return Raw(f'{{"choices": [], "usage": {as_json(usage)}}}')


FIRST, LAST = piece({"role": "assistant", "content": "moon up"}), piece({}, "stop")


def streamed(*deltas: Any, finish_reason: Any = "stop", usage: Any = TOLD) -> bytes:
    pieces = (Raw(f'{{"choices": [{{"index": 0, "delta": {as_json(delta)}}}]}}') for delta in deltas)
    return sse(*pieces, piece({}, finish_reason), counted(usage))


def whole(message: Any, finish_reason: Any = "stop", usage: Any = TOLD) -> bytes:
    choice = f'{{"index": 0, "message": {as_json(message)}, "finish_reason": {as_json(finish_reason)}}}'
    return f'{{"choices": [{choice}], "usage": {as_json(usage)}}}'.encode()


def both(name: str, message: Any, expected: Good | Bad, finish_reason: Any = "stop") -> Iterator[Deviation]:
    yield Deviation(f"{name}, streamed", streamed(message, finish_reason=finish_reason), expected)
    yield Deviation(f"{name}, whole", whole(message, finish_reason), expected, JSON)


def counts() -> Iterator[Deviation]:
    """Usage as it is told, and what is believed of it. The prompt of the test is 2 tokens by estimate."""
    nothing, only_prompt = Usage(12, 2, is_estimated=True), Usage(7, 2, is_estimated=True)
    for name, usage, expected in (
        ("null", None, nothing),
        ("text", "many", nothing),
        ("a list", [7, 3], nothing),
        ("empty", {}, nothing),
        ("no output tokens", {"prompt_tokens": 7}, only_prompt),
        ("null output tokens", {"prompt_tokens": 7, "completion_tokens": None}, only_prompt),
        ("negative", {"prompt_tokens": -1, "completion_tokens": 3}, Usage(12, 3, is_estimated=True)),
        ("a fraction", {"prompt_tokens": 7.5, "completion_tokens": 3.0}, Usage(12, 3, is_estimated=True)),
        ("as floats", {"prompt_tokens": 7.0, "completion_tokens": 3.0}, Usage(7, 3)),
        ("as text", {"prompt_tokens": "7", "completion_tokens": "3"}, Usage(7, 3)),
        ("as endless text", {"prompt_tokens": "9" * 5000, "completion_tokens": 3}, Usage(12, 3, is_estimated=True)),
        ("true", {"prompt_tokens": True, "completion_tokens": 3}, Usage(12, 3, is_estimated=True)),
        ("infinite", Raw('{"prompt_tokens": 1e999, "completion_tokens": 3}'), Usage(12, 3, is_estimated=True)),
        ("not a number", Raw('{"prompt_tokens": NaN, "completion_tokens": 3}'), Usage(12, 3, is_estimated=True)),
        ("beyond any sense", {"prompt_tokens": 10**30, "completion_tokens": 2**62}, nothing),
        ("cached above prompt", {**TOLD, "prompt_tokens_details": {"cached_tokens": 90}}, Usage(7, 3)),
        ("cached a fraction", {**TOLD, "prompt_tokens_details": {"cached_tokens": 1.5}}, Usage(7, 3)),
        ("cached null", {**TOLD, "prompt_tokens_details": {"cached_tokens": None}}, Usage(7, 3)),
        ("details a number", {**TOLD, "prompt_tokens_details": 4}, Usage(7, 3)),
        ("cached", {**TOLD, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(7, 3, 4)),
    ):
        message = {"content": "moon up"}
        yield Deviation(f"counts {name}, streamed", streamed(message, usage=usage), Good(usage=expected))
        yield Deviation(f"counts {name}, whole", whole(message, usage=usage), Good(usage=expected), JSON)
    yield Deviation("no usage, streamed", sse(FIRST, LAST), Good(usage=nothing))
    in_last = {**piece({}, "stop"), "usage": TOLD}
    yield Deviation("usage in the last event", sse(FIRST, in_last), Good())
    yield Deviation(
        "usage null in each event", sse({**FIRST, "usage": None}, {**LAST, "usage": None}, counted(TOLD)), Good()
    )
    growing = [{**one, "usage": {**TOLD, "completion_tokens": i}} for i, one in enumerate((FIRST, LAST))]
    yield Deviation("usage in each event", sse(*growing, counted(TOLD)), Good())
    yield Deviation("usage twice, the second unreadable", sse(FIRST, LAST, counted(TOLD), counted({})), Good())
    yield Deviation("the last events twice", sse(FIRST, LAST, LAST, counted(TOLD), counted(TOLD)), Good())


def texts() -> Iterator[Deviation]:
    halves = [Raw(f'{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}') for text in ("moon \\ud83c", "\\udf19 up")]
    moon = Good("moon \U0001f319 up")
    yield Deviation("a pair over two events", sse(*halves, LAST, counted(TOLD)), moon)
    empty = piece({"content": ""})
    yield Deviation(
        "a pair around an empty event",
        sse(halves[0], empty, halves[1], LAST, counted(TOLD)),
        Good("moon \U0001f319 up"),
    )
    plain = [piece({"content": "a"}), piece({"content": "b"})]
    yield Deviation(
        "half a pair before plain text", sse(*plain, halves[0], *plain, LAST, counted(TOLD)), Good("abmoon \ufffdab")
    )
    yield Deviation("half a pair at the end", sse(halves[0], LAST, counted(TOLD)), Good("moon \ufffd"))
    yield Deviation("the second half alone", sse(halves[1], LAST, counted(TOLD)), Good("\ufffd up"))
    yield from both("half a pair", {"content": "half \ud83d"}, Good("half \ufffd"))
    broken = sse(piece({"content": "m\u00f6n"}), LAST, counted(TOLD)).replace(b"\\u00f6", b"\xf6")
    yield Deviation("latin-1", broken, Good("m\ufffdn"))
    parts = [{"type": "text", "text": "moon "}, {"type": "output_text", "text": "up"}]
    yield from both("content as parts", {"content": parts}, Good())
    yield from both("content as texts", {"content": ["moon ", "up"]}, Good())
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    yield from both("content with thinking", {"content": [thinking, *parts]}, Good())
    yield from both("an image", {"content": [{"type": "image_url"}]}, Bad(BadResponse, "'image_url'"))
    yield from both("content a number", {"content": 5}, again(BadResponse, "type int"))
    yield from both("content deep", Raw(f'{{"content": {DEEP}}}'), Bad(BadResponse, "nested too deeply"))
    yield from both("message as text", "moon up", again(BadResponse, "malformed"))
    yield Deviation("text after [DONE]", sse(FIRST, LAST, counted(TOLD)) + sse(FIRST, Raw("{nonsense")), Good())
    other = {"choices": [{"index": 1, "delta": {"content": "sun"}, "finish_reason": None}]}
    yield Deviation("a second choice", sse(FIRST, other, LAST, counted(TOLD)), Good())
    no_index = [{"choices": [{"delta": {"content": "moon up"}}]}, {"choices": [{"finish_reason": "stop"}]}]
    yield Deviation("no index", sse(*no_index, counted(TOLD)), Good())
    yield Deviation(
        "text of completions", sse({"choices": [{"text": "moon up", "finish_reason": "stop"}]}, counted(TOLD)), Good()
    )
    yield Deviation("choices null", sse({"choices": None}, FIRST, LAST, counted(TOLD)), Good())
    yield Deviation("choices empty", sse({"choices": [], "filter": []}, FIRST, LAST, counted(TOLD)), Good())
    yield Deviation("a choice null", sse({"choices": [None]}), again(BadResponse, "malformed"))
    yield Deviation("choices no list", sse({"choices": {"0": 1}}), again(BadResponse, "malformed"))


def ends() -> Iterator[Deviation]:
    said = {"content": "moon up"}
    for reason, expected in (
        ("eos", Good()),
        ("STOP", Good()),
        ("end_turn", Good()),
        ("max_tokens", Good(finish_reason="length")),
        ("content_filter", Bad(BadResponse, "filter")),
        ("tool_calls", Bad(BadResponse, "tool")),
        ("error", again(BadResponse, "broke off")),
        ("magic", Bad(BadResponse, "'magic'")),
        (["stop"], again(BadResponse, "malformed")),
    ):
        yield from both(f"finish_reason {reason}", said, expected, reason)
    yield Deviation("finish_reason empty, then stop", sse(piece(said, ""), piece({}, "stop"), counted(TOLD)), Good())
    yield Deviation("no finish_reason, whole", whole(said, None), Good(), JSON)
    yield Deviation("no finish_reason at [DONE], counted", sse(FIRST, counted(TOLD)), Good())
    broke_off = again(BadResponse, "broke off")
    yield Deviation("no finish_reason at [DONE]", sse(FIRST), broke_off)
    yield Deviation("no finish_reason and no [DONE]", sse(FIRST, counted(TOLD), end=b""), broke_off)
    yield Deviation("nothing but [DONE]", sse(), broke_off)
    yield Deviation("no [DONE]", sse(FIRST, LAST, counted(TOLD), end=b""), Good())
    thought, raise_it = {"content": None, "reasoning_content": "let me see"}, Bad(BadResponse, "raise max_tokens")
    yield from both("only thought", thought, raise_it, "length")
    yield from both("only thought, then stopped", {"content": "", "reasoning": "let me see"}, raise_it)
    yield from both("only thinking parts", {"content": [{"type": "thinking", "thinking": "hm"}]}, raise_it, "length")
    yield from both("cut off before any text", {"content": None}, raise_it, "length")
    yield from both("thought and answered", {**thought, "content": "moon up"}, Good())
    yield from both("empty and stopped", {"content": ""}, Good("", usage=Usage(7, 3)))
    yield from both("blanks, then cut off", {"content": " \n"}, raise_it, "length")
    yield from both("thought, and blanks", {**thought, "content": "\n\n"}, raise_it)
    yield from both("blanks alone", {"content": "\n"}, Good("\n"))
    call = {"content": None, "tool_calls": [{"function": {"name": "look", "arguments": "{}"}}]}
    yield from both("a tool's call, then stopped", call, Bad(BadResponse, "called a tool"))
    yield from both("answered, with no calls", {"content": "moon up", "tool_calls": []}, Good())
    refused = Bad(BadResponse, "the model refused: I cannot help with that")
    yield from both("refused", {"content": None, "refusal": "I cannot help with that"}, refused)
    yield from both(
        "a refusal as a part", {"content": [{"type": "refusal", "refusal": "I cannot help with that"}]}, refused
    )
    in_pieces = [{"refusal": text} for text in ("I can", "not help", " with that")]
    yield Deviation("refused in pieces", streamed(*in_pieces), refused)


def framings() -> Iterator[Deviation]:
    good = sse(FIRST, LAST, counted(TOLD))
    pretty = json.dumps(FIRST, indent=1).replace("\n", "\ndata: ")
    for name, body in (
        ("no line end after the last event", sse(FIRST, LAST, end=f"data: {counted(TOLD)}".encode())),
        ("no line end after [DONE]", good.rstrip()),
        ("CRLF", good.replace(b"\n", b"\r\n")),
        ("CR", good.replace(b"\n", b"\r")),
        ("one line end between events", good.replace(b"\n\n", b"\n")),
        ("no space after data:", good.replace(b"data: ", b"data:")),
        ("comments", b": ping\n\n" + good.replace(b"\n\n", b"\n\n: ping\n\n")),
        ("event, id and retry lines", good.replace(b"data:", b"event: message\nid: 7\nretry: 10\ndata:")),
        ("several data lines", sse(Raw(pretty), LAST, counted(TOLD))),
        ("several data lines and CRLF", sse(Raw(pretty), LAST, counted(TOLD)).replace(b"\n", b"\r\n")),
        ("a byte order mark", b"\xef\xbb\xbf" + good),
        ("empty lines first", b"\n\n\n" + good),
        ("one object a line", b"\n".join(as_json(one).encode() for one in (FIRST, LAST, counted(TOLD)))),
        ("white space around data", good.replace(b"data: ", b"data:   ")),
    ):
        yield Deviation(f"stream with {name}", body, Good())
    for kind in (
        "Text/Event-Stream",
        "text/event-stream; charset=utf-8",
        "TEXT/EVENT-STREAM;charset=UTF-8",
        "text/plain",
    ):
        yield Deviation(f"stream as {kind}", good, Good(), kind)
    message = whole({"content": "moon up"})
    for kind in ("Application/JSON", "application/json; charset=utf-8", "text/event-stream", "text/plain"):
        yield Deviation(f"whole answer as {kind}", message, Good(), kind)
    yield Deviation("whole answer with a byte order mark", b"\xef\xbb\xbf" + message, Good(), JSON)
    yield Deviation("whole answer after keep-alive lines", b"\n" * 50 + message, Good(), JSON)
    zipped = {"Content-Encoding": "gzip"}
    yield Deviation("gzip", gzip.compress(good), Good(), headers=zipped)
    yield Deviation("gzip damaged", b"garbage", again(BadResponse, "damaged"), headers=zipped)
    no_json = again(BadResponse, "not JSON")
    yield Deviation("an event that is no JSON", sse(Raw("{nonsense")), no_json)
    yield Deviation(
        "an event that is text", b"event: error\ndata: out of memory\n\n", again(BadResponse, "out of memory")
    )
    yield Deviation("whole answer that is cut", message[:-20], no_json, JSON)
    yield Deviation("event that is a number", sse(7), again(BadResponse, "not an object"))
    yield Deviation("whole answer that is a list", b"[1]", again(BadResponse, "not an object"), JSON)
    yield Deviation("deep event", sse(Raw("[" * 100_000)), Bad(BadResponse, "nested too deeply"))
    yield Deviation("number of many digits", sse(Raw("9" * 10_000)), no_json)
    no_answer = Bad(BadResponse, "no answer but")
    yield Deviation("a page", b"<html>log in</html>", no_answer, "text/html")
    yield Deviation("nothing", b"", no_answer, JSON)
    yield Deviation("an empty object", b"{}", no_answer, JSON)
    yield Deviation("no choices", b'{"choices": []}', no_answer, JSON)


def errors_with_200() -> Iterator[Deviation]:
    for name, event, expected in (
        ("context", {"error": {"message": "x", "code": "context_length_exceeded"}}, Bad(PromptTooLong, "shorten")),
        ("context in words", {"error": {"message": "maximum context length is 8"}}, Bad(PromptTooLong, "shorten")),
        ("400 as text", {"error": {"message": "bad", "code": "400"}}, Bad(BadResponse, "bad")),
        ("400", {"error": {"message": "bad", "code": 400}}, Bad(BadResponse, "bad")),
        ("401 as word", {"error": {"message": "no", "code": "invalid_api_key"}}, Bad(BadResponse, "check api_key")),
        ("type only", {"error": {"message": "bad", "type": "invalid_request_error"}}, Bad(BadResponse, "bad")),
        ("overloaded", {"error": {"message": "x", "type": "overloaded_error"}}, again(EngineOverloaded, "overloaded")),
        ("429 as text", {"error": {"message": "x", "code": "429"}}, again(EngineOverloaded, "x")),
        ("rate limit", {"error": {"message": "x", "code": "rate_limit_exceeded"}}, again(EngineOverloaded, "x")),
        ("no credit", {"error": {"message": "x", "code": "insufficient_quota"}}, Bad(EngineOverloaded, "credit")),
        ("timeout", {"error": {"message": "x", "code": 504}}, again(EngineTimeout, "x")),
        ("as text", {"error": "out of memory"}, again(EngineUnavailable, "out of memory")),
        ("unknown code", {"error": {"message": "x", "code": "boom"}}, again(EngineUnavailable, "boom")),
        ("object error", {"object": "error", "message": "bad", "code": 400}, Bad(BadResponse, "bad")),
        ("type error", {"type": "error", "error": {"type": "overloaded_error"}}, again(EngineOverloaded, "overloaded")),
        ("detail", {"detail": "the tenant has used up its quota"}, again(EngineUnavailable, "used up its quota")),
        ("a page inside", {"error": {"message": "<title>Bad gateway</title>"}}, again(EngineUnavailable, "Bad gate")),
        ("half a pair", {"error": {"message": "half \ud83d", "code": 400}}, Bad(BadResponse, "half \ufffd")),
        ("deep", Raw(f'{{"error": {DEEP[:600] + DEEP[-600:]}}}'), again(EngineUnavailable, "[[[[")),
    ):  # fmt: skip
        yield Deviation(f"error {name}, in a stream", sse(FIRST, event), expected)
        yield Deviation(f"error {name}, whole", as_json(event).encode(), expected, JSON)
        yield Deviation(f"error {name}, bare in a stream", as_json(event).encode(), expected)
        yield Deviation(f"error {name}, bare before [DONE]", as_json(event).encode() + b"\n\n" + DONE, expected)
        yield Deviation(f"error {name}, bare after text", sse(FIRST, end=as_json(event).encode()), expected)


def error_statuses() -> Iterator[Deviation]:
    page = "<html><head><title>502 Bad Gateway</title><style>x{}</style></head><body>nginx</body></html>"
    untitled = "<!doctype html><style>x{}</style><p>Not&nbsp;here &amp; not there</p>"
    for name, status, body, expected in (
        ("a page", 502, page, again(EngineUnavailable, "502: 502 Bad Gateway")),
        ("a page without title", 404, untitled, Bad(BadResponse, "404: Not here & not there")),
        ("nothing", 500, "", again(EngineUnavailable, "500: nothing")),
        ("huge", 500, "x" * 2_000_000, again(EngineUnavailable, "xxxx")),
        ("huge JSON", 400, json.dumps({"error": {"message": "x" * 300_000}}), Bad(BadResponse, "xxxx")),
        ("deep", 500, "[" * 100_000, again(EngineUnavailable, "[[[[")),
        ("half a pair", 400, '{"error": "half \\ud83d"}', Bad(BadResponse, "half \ufffd")),
        ("error and message", 500, '{"error": "Internal", "message": "disk"}', again(EngineUnavailable, "disk")),
        ("a list of details", 422, '{"detail": [{"msg": "bad field"}]}', Bad(BadResponse, "bad field")),
        ("overloaded", 529, '{"error": {"message": "x"}}', again(EngineOverloaded, "529")),
        ("payment", 402, '{"error": {"message": "x"}}', Bad(BadResponse, "credit")),
        ("context", 400, '{"error": {"code": "context_length_exceeded"}}', Bad(PromptTooLong, "shorten")),
    ):
        yield Deviation(f"status {status} with {name}", body.encode(), expected, "text/html", status)


TABLE = (*counts(), *texts(), *ends(), *framings(), *errors_with_200(), *error_statuses())
