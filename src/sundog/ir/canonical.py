"""Canonical bytes and fingerprints: equal meaning gives equal bytes on every machine and day.

Owns the JSON form used for keys. Never used for the user's output files.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

from pydantic_core import to_jsonable_python


def to_json_value(value: Any) -> Any:
    """`value` in JSON types only (dates as ISO text, decimals as text, sets as lists); ValueError if impossible."""
    return to_jsonable_python(value, serialize_unknown=False, bytes_mode="base64", inf_nan_mode="null")


def canonical_json(value: Any) -> bytes:
    """`value` (JSON types only) as bytes with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def fingerprint(value: Any, *, size_bytes: int = 16) -> bytes:
    """`size_bytes` bytes that are equal exactly when `value` is (as JSON)."""
    return blake2b(canonical_json(value), digest_size=size_bytes).digest()
