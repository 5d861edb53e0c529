"""What an HTTP failure means for the call: whether it may be tried again, and whether an effect may have happened.

Owns the reading of statuses and transport errors. Never sends.

An effect (any method but GET and HEAD) is known not to have happened when nothing was sent, when the server refuses
it (4xx, 501, 505), or puts it off (429, 503: the idempotency key makes another attempt safe). After any other 5xx, and
when the connection ends or the time runs out once sending began, nobody here knows.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from sundog.errors import OperatorError

_PUT_OFF = {408, 425, 429, 503}
_REFUSED = {501, 505}


def status_fault(response: httpx.Response, text: str, *, is_effect: bool) -> OperatorError:
    """An answer with a status that the step does not expect; `text` is its body."""
    status = response.status_code
    is_unknown = is_effect and status >= 500 and status not in _PUT_OFF | _REFUSED
    is_retryable = status in _PUT_OFF or (status >= 500 and status not in _REFUSED)
    return OperatorError(
        f"the server answered {status} {response.reason_phrase}".rstrip(),
        hint=_status_hint(response, text),
        retryable=is_retryable and not is_unknown,
        retry_after_s=_retry_after_s(response.headers.get("retry-after")),
        is_outcome_unknown=is_unknown,
    )


def transport_fault(error: httpx.RequestError | TimeoutError, timeout_s: float, *, is_unknown: bool) -> OperatorError:
    """No answer, or half of one."""
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return OperatorError(f"the request cannot be sent: {error}")
    is_late = isinstance(error, TimeoutError | httpx.TimeoutException)
    what = f"no answer within {timeout_s:g} s" if is_late else f"the connection failed: {error or type(error).__name__}"
    return OperatorError(
        what,
        hint="the server may or may not have acted" if is_unknown else None,
        retryable=not is_unknown,
        is_outcome_unknown=is_unknown,
    )


def _status_hint(response: httpx.Response, text: str) -> str | None:
    if response.has_redirect_location:
        return f"it points to {response.headers['location']}; write that URL or set follow_redirects: true"
    body = " ".join(text.split())
    return f"it says: {body[:200]}" if body else None


def _retry_after_s(value: str | None) -> float | None:
    """Seconds from now, whether the header holds seconds or a date; None for anything else."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
