"""Durations as users write them.

Owns their form.
"""

from __future__ import annotations

import re

from sundog.errors import ConfigError

_PARTS = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def read_duration(option: str, text: str) -> float:
    """Return the seconds of `30d`, `2h`, `90m`, `1h30m` or `45s`; ConfigError for another form, or for none at all.

    >>> read_duration("--deadline", "1h30m")
    5400.0
    """
    seconds = seconds_of(text)
    if not seconds:
        raise ConfigError(f"{option} {text!r} is no duration", hint=f"as in {option} 2h, {option} 90m or {option} 45s")
    return seconds


def seconds_of(text: str) -> float | None:
    """Return the seconds of a duration, which may be none at all; None for a text of another form.

    >>> seconds_of("1h30m"), seconds_of("0s"), seconds_of("soon")
    (5400.0, 0.0, None)
    """
    match = _PARTS.fullmatch(text)
    if match is None or not text:
        return None
    return sum(float(part or 0) * unit for part, unit in zip(match.groups(), (86_400, 3600, 60, 1), strict=True))
