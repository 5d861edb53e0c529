"""Canonical bytes and fingerprints: equal meaning gives equal bytes on every machine and day.

Owns the JSON form used for keys. Never used for the user's output files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from typing import Any

from pydantic import BaseModel

from sundog.ir.values.normal_form import normal_form


def describe_value(value: Any) -> Any:
    """Plan nodes, specs and templates as JSON types: what they mean, without where they were written."""
    match value:
        case BaseModel():
            return {name: describe_value(getattr(value, name)) for name in type(value).model_fields}
        case _ if is_dataclass(value):
            compared = {one.name: describe_value(getattr(value, one.name)) for one in fields(value) if one.compare}
            return {"type": type(value).__name__, **compared}
        case Mapping():
            return {str(key): describe_value(item) for key, item in value.items()}
        case list() | tuple():
            return [describe_value(item) for item in value]
    return normal_form(value)


# One encoder for all: making one costs as much as encoding a prompt.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical_json(value: Any) -> bytes:
    """Return `value` (JSON types only) as bytes with sorted keys and no spaces."""
    return _ENCODER.encode(value).encode("utf-8", "surrogatepass")


def fingerprint(value: Any, *, size_bytes: int = 16) -> bytes:
    """Return `size_bytes` bytes that are equal exactly when `value` is (as JSON)."""
    return blake2b(canonical_json(value), digest_size=size_bytes).digest()
