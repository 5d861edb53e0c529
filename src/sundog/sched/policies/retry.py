"""Retry: how long to wait before the next attempt. Pure: the jitter comes from the request's own id."""

from __future__ import annotations

from zlib import crc32

from sundog.sched.views import RequestView, SchedView

BASE_S = 0.5
MAX_S = 30.0


def exponential_backoff(request: RequestView, retry_after_s: float | None, sched: SchedView) -> float:
    """Wait 0.5 s, 1 s, 2 s, ... up to 30 s, each times a jitter in [0.5, 1); never less than the server's
    `retry_after_s`.

    >>> request = RequestView("r", "gpu", num_attempts=1)
    >>> 0.25 <= exponential_backoff(request, None, SchedView()) < 0.5
    True
    >>> exponential_backoff(request, 7.0, SchedView())  # the server asks for 7 s
    7.0
    """
    delay_s: float = min(MAX_S, BASE_S * 2.0 ** (request.num_attempts - 1))
    seed = f"{request.request_id}/{request.num_attempts}".encode()
    jittered_s = delay_s * (0.5 + crc32(seed) / 2**33)
    return max(jittered_s, retry_after_s or 0.0)
