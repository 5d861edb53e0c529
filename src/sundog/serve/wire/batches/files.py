"""The forms of files on the wire: what a client says of one that it sends, and what it gets.

Owns these forms, and those of lists that are read page by page. Never keeps a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from sundog.errors import suggest
from sundog.serve.wire.errors import Refusal, wrong_request
from sundog.store.files import KeptFile

BATCH = "batch"
"""The one purpose for which clients send files."""
BATCH_OUTPUT = "batch_output"
MIN_EXPIRES_S = 3_600
MAX_EXPIRES_S = 30 * 86_400
_ANCHOR, _SECONDS = "expires_after[anchor]", "expires_after[seconds]"
_FIELDS = ("purpose", _ANCHOR, _SECONDS)
_ID = re.compile(r"[\w-]{1,64}", re.ASCII)


def read_expiry(fields: Mapping[str, str]) -> float | None:
    """Return the seconds that a file is to be kept, as the other fields of its form say, None for no end; Refusal for
    a field that is wrong."""
    for name in fields:
        if name not in _FIELDS:
            raise wrong_request(name, "there is no such field", hint=suggest(name, _FIELDS), code="unknown_field")
    if fields.get("purpose") != BATCH:
        hint = "this server takes files for /v1/batches alone"
        raise wrong_request("purpose", f"it has to be '{BATCH}'", hint=hint, code="invalid_purpose")
    if _ANCHOR not in fields and _SECONDS not in fields:
        return None
    seconds = fields.get(_SECONDS, "")
    is_whole = re.fullmatch(r"\d{1,9}", seconds, re.ASCII) is not None
    return expires_after(fields.get(_ANCHOR), int(seconds) if is_whole else None, "expires_after")


def expires_after(anchor: Any, seconds: Any, param: str) -> float:
    """Return the seconds after which a file is gone; Refusal for an anchor or a time that is wrong."""
    if anchor != "created_at":
        raise wrong_request(f"{param}.anchor", "it has to be 'created_at'")
    is_whole = isinstance(seconds, int) and not isinstance(seconds, bool)
    if not is_whole or not MIN_EXPIRES_S <= seconds <= MAX_EXPIRES_S:
        raise wrong_request(f"{param}.seconds", f"it is a whole number from {MIN_EXPIRES_S:,} to {MAX_EXPIRES_S:,}")
    return float(seconds)


def file_document(file: KeptFile, num_bytes: int) -> dict[str, Any]:
    """Return a file as clients see it."""
    return {
        "id": file.file_id,
        "object": "file",
        "bytes": num_bytes,
        "created_at": int(file.created_at),
        "expires_at": None if file.expires_at is None else int(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def page_document(documents: Sequence[Mapping[str, Any]], limit: int) -> dict[str, Any]:
    """Return a page of a list: at most `limit` of the `documents`, of which one more shows that others follow."""
    shown = list(documents[:limit])
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(documents) > limit,
    }


def read_limit(written: str | None, default: int, most: int) -> int:
    """Return how many a page is to have; Refusal for a number that is wrong."""
    if written is None:
        return default
    if not re.fullmatch(r"\d{1,6}", written, re.ASCII) or not 1 <= int(written) <= most:
        raise wrong_request("limit", f"it is a whole number from 1 to {most:,}")
    return int(written)


def read_after(written: str | None) -> str | None:
    """Return the id behind which a page begins; Refusal for what is no id."""
    if written is not None and not is_id(written):
        raise wrong_request("after", "it is the id of the last one of the page before")
    return written


def is_id(written: Any) -> TypeGuard[str]:
    """Return whether a text has the form of ids."""
    return isinstance(written, str) and _ID.fullmatch(written) is not None


def no_file(file_id: str, param: str = "id") -> Refusal:
    """Return the refusal of a request for a file that is not there."""
    return Refusal(404, f"there is no file '{file_id[:64]}'", param=param, code="file_not_found", is_final=True)
