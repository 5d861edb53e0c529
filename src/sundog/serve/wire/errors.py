"""The errors that the gateway answers with, in the forms of OpenAI and of Anthropic.

Owns what a failure is called on the wire: its status, type, code and headers. Never decides whether something failed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sundog.errors import (
    BadResponse,
    CallError,
    EngineOverloaded,
    EngineTimeout,
    EngineUnavailable,
    InputError,
    LimitReached,
    PromptTooLong,
    RunStopped,
    StoreError,
    SundogError,
)
from sundog.serve.wire.sse import event_bytes

DEFAULT_RETRY_AFTER_S = 1.0
"""The wait that is asked for where whoever is overloaded or absent names none."""

OPENAI_TYPES: Mapping[int, str] = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error",
}  # fmt: skip
QUOTA_CODES = frozenset({"insufficient_quota", "budget_exceeded"})
"""They say that money is at its end, which no wait changes."""
ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error",
    529: "overloaded_error",
}  # fmt: skip
_ANTHROPIC_PATHS = ("/v1/messages", "/v1/messages/count_tokens")


class Refusal(Exception):
    """Raised where a request gets an error for its answer; caught by the door that it came to, which sends it in the
    form of that door. Nothing changes it after it is made.

    `param` names the field that is wrong, `code` is for programs. `retry_after_s`: the wait that is asked for, in
    seconds. `is_final`: the same request would fail again, so that clients are told to make no other attempt.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        is_final: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s
        self.is_final = is_final

    @property
    def type(self) -> str:
        """Return the type of the error in OpenAI's words."""
        if self.status >= 500:
            return "server_error"
        if self.status == 429 and self.code in QUOTA_CODES:
            return "insufficient_quota"
        return OPENAI_TYPES.get(self.status, "invalid_request_error")

    def headers(self) -> dict[str, str]:
        """Return the headers that tell a client whether and when to ask again; whole seconds, rounded up."""
        headers: dict[str, str] = {}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(0, math.ceil(self.retry_after_s)))
        if self.is_final:
            headers["x-should-retry"] = "false"
        return headers


def wrong_request(param: str, what: str, *, hint: str | None = None, code: str | None = None) -> Refusal:
    """Return the refusal of a request that is wrong in the field `param`."""
    message = f"{param}: {what}; {hint}" if hint else f"{param}: {what}"
    return Refusal(400, message, param=param, code=code, is_final=True)


def openai_error(refusal: Refusal) -> dict[str, Any]:
    """Return the body of an error in OpenAI's form."""
    told = {"message": refusal.message, "type": refusal.type, "param": refusal.param, "code": refusal.code}
    return {"error": told}


def openai_error_event(refusal: Refusal) -> bytes:
    """Return the event that ends a stream of chat chunks or completions with an error."""
    return event_bytes(openai_error(refusal))


def anthropic_error(refusal: Refusal) -> dict[str, Any]:
    """Return the body of an error in Anthropic's form."""
    default = "api_error" if refusal.status >= 500 else "invalid_request_error"
    kind = ANTHROPIC_TYPES.get(refusal.status, default)
    return {"type": "error", "error": {"type": kind, "message": refusal.message}}


def anthropic_status(refusal: Refusal) -> int:
    """Return the status of an error at Anthropic's door, which has one of its own for a server that is overloaded."""
    return 529 if refusal.status == 503 and refusal.code == "overloaded" else refusal.status


def error_at(path: str, refusal: Refusal) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of an error in the form of the door that is at `path`.

    >>> error_at("/v1/messages", Refusal(408, "it is late"))
    (408, {'type': 'error', 'error': {'type': 'invalid_request_error', 'message': 'it is late'}})
    """
    if path.endswith(_ANTHROPIC_PATHS):
        return anthropic_status(refusal), anthropic_error(refusal)
    return refusal.status, openai_error(refusal)


def anthropic_error_event(refusal: Refusal) -> bytes:
    """Return the event that ends a stream of Anthropic's form with an error."""
    return event_bytes(anthropic_error(refusal), event="error")


def refusal_of(error: BaseException) -> Refusal:
    """Return what a failure is on the wire. Of an exception that is not sundog's own only the class is told: its text
    is not meant for clients."""
    match error:
        case Refusal():
            return error
        case CallError():
            return _refusal_of_call(error)
        case LimitReached():
            # A key, or its tenant, has spent what it may; a program or a request what its client allows.
            is_own = error.refusal is not None and error.refusal.scope.kind in ("program", "request")
            code = "budget_exceeded" if is_own else "insufficient_quota"
            return Refusal(429, error.what, code=code, is_final=True)
        case InputError():
            return Refusal(400, _message(error), code="invalid_input", is_final=True)
        case StoreError():
            return Refusal(500, _message(error), code="store_failed")
        case RunStopped():
            return Refusal(503, _message(error), code="stopped", retry_after_s=DEFAULT_RETRY_AFTER_S)
        case SundogError():
            return Refusal(500, _message(error), code="internal_error", is_final=True)
    what = f"the server failed with {type(error).__name__}; its log says where"
    return Refusal(500, what, code="internal_error")


def _refusal_of_call(error: CallError) -> Refusal:
    message, is_final = _message(error), not error.retryable
    wait_s = error.retry_after_s
    if wait_s is None and error.retryable:
        wait_s = DEFAULT_RETRY_AFTER_S
    match error:
        case PromptTooLong():
            return Refusal(400, message, param="messages", code="context_length_exceeded", is_final=True)
        case EngineOverloaded() if is_final:
            return Refusal(429, message, code="insufficient_quota", retry_after_s=error.retry_after_s, is_final=True)
        case EngineOverloaded():
            return Refusal(503, message, code="overloaded", retry_after_s=wait_s)
        case EngineUnavailable():
            return Refusal(503, message, code="engine_unavailable", retry_after_s=wait_s, is_final=is_final)
        case EngineTimeout():
            return Refusal(504, message, code="timeout", retry_after_s=error.retry_after_s, is_final=is_final)
        case BadResponse():
            return Refusal(502, message, code="bad_response", retry_after_s=error.retry_after_s, is_final=is_final)
    return Refusal(500, message, code="call_failed", retry_after_s=error.retry_after_s, is_final=is_final)


def _message(error: SundogError) -> str:
    head = f"{error.where}: {error.what}" if error.where else error.what
    return f"{head}; {error.hint}" if error.hint else head
