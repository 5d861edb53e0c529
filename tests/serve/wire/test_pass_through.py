"""Bodies and headers that pass between a client and a server of the OpenAI protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.serve.wire.pass_through import answer_headers, asks_for_usage, forwarded_body, forwarded_headers, with_usage


def forwarded(raw: bytes, model: str = "Qwen/Qwen3") -> bytes:
    return forwarded_body(raw, json.loads(raw), model=model)


def test_a_body_with_the_right_name_passes_as_it_is() -> None:
    raw = b'{ "model" : "Qwen/Qwen3",\n"x": 1.50 }'
    assert forwarded(raw) is raw


def test_only_the_name_changes() -> None:
    raw = b'{ "seed": 1e2, "model" : "small",\n"messages": [ {"content": "\\u00e9"} ], "unknown": 1.50 }'
    assert forwarded(raw) == raw.replace(b'"small"', b'"Qwen/Qwen3"')


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"small","metadata":{"model":"small"}}',
        b'{"metadata":{"model":"small"},"model":"small","x":"\\"model\\":\\"small\\""}',
        b'{"\\u006dodel":"small","metadata":{"model":"small"}}',
        b'{"mode\\u006c":"small","x":"model"}',
        b'{"model":"a\\"b","tools":[]}',
        b'{"model":"first","model":"second"}',
        b'{"model":null,"x":["model","y"]}',
        b'{"model":"small","x":"model"}',
        b'{"x":"model","y":"small"}',
        '{"model":"small","x":"é\\ud83d\\ude00"}'.encode(),
    ],
)
def test_whatever_else_is_called_model_stays(raw: bytes) -> None:
    expected = {**json.loads(raw), "model": 'a"/é'}
    assert json.loads(forwarded(raw, 'a"/é')) == expected


NESTED = st.recursive(
    st.sampled_from(["model", "small", '"model":"small"', 'a"b', "é", "\ud800", "\\u006dodel", "\n"])
    | st.integers()
    | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "x", '"model"']), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["model", "x", "y"]), NESTED), st.booleans(), st.sampled_from([None, 1]))
def test_any_body_keeps_all_but_the_name(body: dict[str, Any], is_ascii: bool, indent: int | None) -> None:
    raw = json.dumps(body, ensure_ascii=is_ascii, indent=indent).encode("utf-8", "surrogatepass")
    assert json.loads(forwarded_body(raw, body, model="m")) == {**body, "model": "m"}


def test_headers_of_a_request() -> None:
    headers = [
        ("Host", "gateway"), ("Authorization", "Bearer ours"), ("x-api-key", "ours"), ("Cookie", "a=b"),
        ("Content-Length", "12"), ("Content-Type", "application/json"), ("Accept-Encoding", "gzip"),
        ("Connection", "keep-alive, X-Session-Id"), ("Transfer-Encoding", "chunked"), ("X-Session-Id", "hop"),
        ("X-Request-Id", "r1"), ("traceparent", "00-1"), ("tracestate", "a=b"),
        ("X-Dynamo-Session-Id", "s"), ("x-tenant-id", "t"), ("x-vllm-priority", "1"),
        ("x-sundog-deadline", "5"), ("x-sundog-budget", "1"), ("Forwarded", "for=me"), ("X-Forwarded-For", "me"),
    ]  # fmt: skip
    assert forwarded_headers(headers) == {
        "x-request-id": "r1",
        "traceparent": "00-1",
        "tracestate": "a=b",
        "x-dynamo-session-id": "s",
        "x-tenant-id": "t",
        "x-vllm-priority": "1",
    }


def test_headers_of_an_answer() -> None:
    headers = [
        ("Content-Type", "text/event-stream"), ("Content-Length", "9"), ("Content-Encoding", "gzip"),
        ("Server", "uvicorn"), ("Date", "now"), ("Set-Cookie", "a=b"), ("Connection", "close"),
        ("Keep-Alive", "timeout=5"), ("X-Request-Id", "r1"), ("Retry-After", "2"), ("x-should-retry", "false"),
        ("X-RateLimit-Remaining-Tokens", "7"), ("x-llm-d-request-dropped-reason", "rejected-saturated"),
    ]  # fmt: skip
    assert answer_headers(headers) == {
        "content-type": "text/event-stream",
        "x-request-id": "r1",
        "retry-after": "2",
        "x-should-retry": "false",
        "x-ratelimit-remaining-tokens": "7",
        "x-llm-d-request-dropped-reason": "rejected-saturated",
    }


@pytest.mark.parametrize(
    ("raw", "options"),
    [
        (b'{"stream":true}', {"include_usage": True}),
        (b' \n{ "stream" : true }', {"include_usage": True}),
        (b'{"stream":true,"stream_options":null}', {"include_usage": True}),
        (b'{"stream":true,"stream_options":{"include_usage":false,"x":1}}', {"include_usage": True, "x": 1}),
        (b'{"stream":true,"stream_options":3}', 3),
    ],
)
def test_a_stream_tells_its_tokens_though_its_client_does_not_ask(raw: bytes, options: Any) -> None:
    body = json.loads(raw)
    assert not asks_for_usage(body)
    assert json.loads(with_usage(raw, body)) == {**body, "stream_options": options}
    assert asks_for_usage({"stream_options": {"include_usage": True}})
