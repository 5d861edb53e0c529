"""The form in which an accepted request is kept: its rows and terms, as JSON.

Owns writing and reading it. When it is worked on is the affair of its flow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from sundog.errors import StoreError
from sundog.live.terms import Terms
from sundog.store.accepted import Accepted


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """The rows of one request, and its terms."""

    rows: Sequence[Mapping[str, Any]]
    is_single: bool
    terms: Terms

    def body(self) -> bytes:
        """Return what is kept of it."""
        return to_json({"rows": self.rows, "is_single": self.is_single, "terms": self.terms.to_dict()})


def read_kept(accepted: Accepted, flow: str) -> KeptRequest:
    """Return what a request of a flow was accepted with; StoreError where that is not in the form of this version."""
    try:
        body = json.loads(accepted.body)
        rows, is_single = body["rows"], body["is_single"]
        if not (isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)):
            raise TypeError("`rows` is no list of objects")
        return KeptRequest(rows, bool(is_single), Terms.of(body["terms"]))
    except (ValueError, KeyError, TypeError) as error:
        what = f"its rows and terms cannot be read: {type(error).__name__}: {error}"
        where = f"run '{accepted.request_id}' of the flow '{flow}'"
        raise StoreError(
            what, where=where, hint="start the version that accepted it, or send its rows again"
        ) from error
