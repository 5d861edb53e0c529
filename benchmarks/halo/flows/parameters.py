"""The rule of W5 and W6: a request's parameters, by a regular expression."""

from __future__ import annotations

import re

REQUEST = re.compile(r"region ([A-Z ]+), segment ([A-Z]+), from (\d{4})-(\d\d), size (\d+)")


def read(text: str) -> dict[str, str | int]:
    """`since` to `until` is one year; ValueError for a request of another form."""
    match = REQUEST.search(text)
    if match is None:
        raise ValueError(f"this is no request: {text[:80]}")
    region, segment, year, month, size = match.groups()
    period = {"since": f"{year}-{month}-01", "until": f"{int(year) + 1}-{month}-01"}
    return {"region": region, "segment": segment, **period, "size": int(size)}
