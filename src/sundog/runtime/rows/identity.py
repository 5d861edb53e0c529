"""The identity of input rows: two sets are the same that have the same content of files and text of queries and calls.

Owns these identities. Never opens a table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sundog.ir.logical import InputSource
from sundog.ir.values.normal_form import normal_form
from sundog.runtime.rows.paths import find_files


def identity_of(inputs: Sequence[InputSource], base_dir: Path) -> list[Any]:
    """Return one JSON value per input. Equal content under another name is equal; rows of queries and calls may differ
    under an equal identity, which is why a run keeps a snapshot of them."""
    return [_identity(source, base_dir) for source in inputs]


def _identity(source: InputSource, base_dir: Path) -> dict[str, Any]:
    described: dict[str, Any] = {"name": source.name, "key": source.key, "types": dict(source.types)}
    if source.at is not None:
        described["at"] = source.at
    if source.query is not None:
        described["query"] = source.query
    elif source.call is not None:
        described |= {"call": source.call, "args": normal_form(source.args)}
    else:
        files = find_files(source, base_dir)
        described |= {"format": files.format, "content": [_digest(path) for path in files.paths]}
    return described


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
