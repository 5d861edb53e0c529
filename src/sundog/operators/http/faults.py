"""The meaning of an HTTP failure for the call: whether it may be tried again, and whether an effect may have happened.

Owns the reading of statuses and transport faults. Never sends.

An effect is known not to have happened when nothing was sent, or when the server refuses it (4xx, 501, 505), sends it
to another address (307, 308), or puts it off before it looks (425, 429: the idempotency key makes another attempt
safe). After 408, 499 and any other 5xx, and when the connection ends or the time runs out once sending began, nobody
here knows: a gateway says 503 and 504 of a server that it has asked, and 408 of a request that was in part received. A
2xx that the step does not expect says that the server has acted, and so does many a 302 or 303.
"""

from __future__ import annotations

import time

from sundog.errors import OperatorError
from sundog.transport.answer import WholeAnswer
from sundog.transport.faults import BadAddress, Silent, TooLarge, TransportFault, Untrusted
from sundog.transport.retry_after import retry_after_s

_PUT_OFF = {425, 429}
_ELSEWHERE = {307, 308}
_CUT_OFF = {408, 499}
_REFUSED = {501, 505}
_HOPELESS = (BadAddress, TooLarge, Untrusted)


def status_fault(answer: WholeAnswer, text: str, *, is_effect: bool) -> OperatorError:
    """Return the fault of an answer with a status that the step does not expect; `text` is its body."""
    status = answer.status
    is_doubtful = status in _CUT_OFF or (status >= 500 and status not in _REFUSED)
    has_perhaps_acted = is_doubtful or (status < 400 and status not in _ELSEWHERE)
    return OperatorError(
        f"the server answered {status} {answer.reason}".rstrip(),
        hint=_status_hint(answer, text),
        retryable=status in _PUT_OFF or (is_doubtful and not is_effect),
        retry_after_s=retry_after_s(answer.headers, time.time()),
        is_outcome_unknown=is_effect and has_perhaps_acted,
    )


def transport_fault(fault: TransportFault | TimeoutError, timeout_s: float, *, is_unknown: bool) -> OperatorError:
    """Return the fault of no answer, or half of one."""
    is_late = isinstance(fault, TimeoutError | Silent)
    if is_late:
        what, hint = f"no answer within {timeout_s:g} s", None
    elif isinstance(fault, TooLarge):
        what, hint = fault.what, fault.hint
    else:
        assert isinstance(fault, TransportFault), "it is late otherwise"
        what, hint = f"the connection failed: {fault.what}", fault.hint
    return OperatorError(
        what,
        hint="the server may or may not have acted" if is_unknown and hint is None else hint,
        retryable=not is_unknown and not isinstance(fault, _HOPELESS),
        is_outcome_unknown=is_unknown,
    )


def _status_hint(answer: WholeAnswer, text: str) -> str | None:
    if 300 <= answer.status < 400 and "location" in answer.headers:
        return f"it points to {answer.headers['location']}; write that URL or set follow_redirects: true"
    body = " ".join(text[:2000].split())
    return f"it says: {body[:200]}" if body else None
