"""The wait that a server asks for.

Owns the reading of `retry-after-ms` and Retry-After. Never decides whether anybody waits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

MAX_WAIT_S = 1e9
"""A wait that is beyond it (a date in the year 9999, 400 digits) is this much."""


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Return the seconds from now of `retry-after-ms` or Retry-After, be that a number or a date, at most MAX_WAIT_S;
    None when absent or unreadable. `headers` are looked up in lower case; `now_s` is the Unix time."""
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _is_number(milliseconds):
        return min(float(milliseconds) / 1000, MAX_WAIT_S)
    text = headers.get("retry-after", "").strip()
    if _is_number(text):
        return min(float(text), MAX_WAIT_S)
    try:
        moment = parsedate_to_datetime(text)
        # A date without a zone is one of UTC.
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return min(max(0.0, moment.timestamp() - now_s), MAX_WAIT_S)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII) is not None
