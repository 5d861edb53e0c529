"""The statuses, types and headers of errors at the doors."""

from __future__ import annotations

import json

import pytest

from sundog.errors import (
    BadResponse,
    ConfigError,
    EngineOverloaded,
    EngineTimeout,
    EngineUnavailable,
    InputError,
    OperatorError,
    PromptTooLong,
    RunStopped,
    StoreError,
)
from sundog.serve.wire.errors import (
    Refusal,
    anthropic_error,
    anthropic_error_event,
    anthropic_status,
    openai_error,
    openai_error_event,
    refusal_of,
    wrong_request,
)


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "authentication_error"),
        (403, "permission_error", "permission_error"),
        (404, "not_found_error", "not_found_error"),
        (409, "invalid_request_error", "invalid_request_error"),
        (413, "invalid_request_error", "request_too_large"),
        (422, "invalid_request_error", "invalid_request_error"),
        (429, "rate_limit_error", "rate_limit_error"),
        (500, "server_error", "api_error"),
        (502, "server_error", "api_error"),
        (503, "server_error", "overloaded_error"),
        (504, "server_error", "timeout_error"),
        (529, "server_error", "overloaded_error"),
    ],
)
def test_each_status_has_a_type_in_both_forms(status: int, openai: str, anthropic: str) -> None:
    refusal = Refusal(status, "no", param="model", code="c")
    assert openai_error(refusal) == {"error": {"message": "no", "type": openai, "param": "model", "code": "c"}}
    assert anthropic_error(refusal) == {"type": "error", "error": {"type": anthropic, "message": "no"}}


@pytest.mark.parametrize(
    ("error", "status", "code", "headers"),
    [
        (PromptTooLong("p"), 400, "context_length_exceeded", {"x-should-retry": "false"}),
        (EngineOverloaded("p", retryable=True, retry_after_s=2.1), 503, "overloaded", {"retry-after": "3"}),
        (EngineOverloaded("p", retryable=True), 503, "overloaded", {"retry-after": "1"}),
        (EngineOverloaded("p"), 429, "insufficient_quota", {"x-should-retry": "false"}),
        (EngineUnavailable("p", retryable=True), 503, "engine_unavailable", {"retry-after": "1"}),
        (EngineUnavailable("p"), 503, "engine_unavailable", {"x-should-retry": "false"}),
        (EngineTimeout("p", retryable=True), 504, "timeout", {}),
        (BadResponse("p", retryable=True), 502, "bad_response", {}),
        (BadResponse("p"), 502, "bad_response", {"x-should-retry": "false"}),
        (OperatorError("p"), 500, "call_failed", {"x-should-retry": "false"}),
        (InputError("p"), 400, "invalid_input", {"x-should-retry": "false"}),
        (StoreError("p"), 500, "store_failed", {}),
        (RunStopped("p"), 503, "stopped", {"retry-after": "1"}),
        (ConfigError("p"), 500, "internal_error", {"x-should-retry": "false"}),
        (KeyError("secret"), 500, "internal_error", {}),
    ],
)
def test_each_failure_has_a_status(error: Exception, status: int, code: str, headers: dict[str, str]) -> None:
    refusal = refusal_of(error)
    assert (refusal.status, refusal.code, refusal.headers()) == (status, code, headers)
    assert "secret" not in refusal.message


def test_a_message_says_what_where_and_what_to_do() -> None:
    error = BadResponse("it broke", where="engine a", hint="look at its log")
    assert refusal_of(error).message == "engine a: it broke; look at its log"
    assert wrong_request("n", "it is 3", hint="send 1").message == "n: it is 3; send 1"


def test_a_refusal_is_itself() -> None:
    refusal = wrong_request("n", "it is 3")
    assert refusal_of(refusal) is refusal
    assert (refusal.status, refusal.param, str(refusal)) == (400, "n", "n: it is 3")


@pytest.mark.parametrize(("code", "status"), [("overloaded", 529), ("engine_unavailable", 503)])
def test_anthropic_has_a_status_for_overload(code: str, status: int) -> None:
    assert anthropic_status(Refusal(503, "no", code=code)) == status


def test_errors_are_events_of_both_forms() -> None:
    refusal = Refusal(429, "wait")
    assert json.loads(openai_error_event(refusal).removeprefix(b"data: ")) == openai_error(refusal)
    head, _, data = anthropic_error_event(refusal).partition(b"\n")
    assert head == b"event: error"
    assert json.loads(data.removeprefix(b"data: ")) == anthropic_error(refusal)
