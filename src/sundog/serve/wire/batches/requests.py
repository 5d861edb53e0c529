"""The forms of batches on the wire: what a client wishes, and what it gets.

Owns these forms. Never runs anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sundog.errors import suggest
from sundog.ir.values.normal_form import whole_text
from sundog.serve.wire.batches.files import expires_after, is_id
from sundog.serve.wire.errors import Refusal, wrong_request
from sundog.store.batches import KeptBatch, LineTotals

MODEL_ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages")
FLOW_ENDPOINT = "/v1/flows/"
"""The name of a flow follows."""
MAX_WINDOW_S = 30 * 86_400.0
_WINDOW = re.compile(r"([1-9]\d{0,6})([smhd])", re.ASCII)
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
MAX_PAIRS = 16
MAX_NAME_CHARACTERS = 64
MAX_VALUE_CHARACTERS = 512
_FIELDS = ("input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after")
_TIMES = (
    *("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class WantedBatch:
    """The wish of a client: a file whose lines are worked on."""

    input_file_id: str
    endpoint: str
    completion_window: str
    #: Seconds that it gives the batch.
    window_s: float
    metadata: Mapping[str, str] | None
    #: Seconds after which the files of its lines are gone, None for no end.
    output_expires_s: float | None

    @property
    def flow(self) -> str | None:
        """Return the name of the flow that its lines are for, None for models."""
        return flow_of(self.endpoint)


def flow_of(endpoint: str) -> str | None:
    """Return the name of the flow of an endpoint, None where it is one of models."""
    return endpoint.removeprefix(FLOW_ENDPOINT) if endpoint.startswith(FLOW_ENDPOINT) else None


def read_wanted_batch(body: Any) -> WantedBatch:
    """Return the wish that a body holds; Refusal for a field that is wrong."""
    if not isinstance(body, Mapping):
        raise Refusal(400, "the body is no JSON object", is_final=True)
    for name in body:
        if name not in _FIELDS:
            raise wrong_request(name, "there is no such field", hint=suggest(name, _FIELDS), code="unknown_field")
    file_id, window = body.get("input_file_id"), body.get("completion_window")
    if not is_id(file_id):
        raise wrong_request("input_file_id", "it is the id of a file that was sent to /v1/files")
    return WantedBatch(
        file_id,
        _endpoint(body.get("endpoint")),
        str(window),
        _window_s(window),
        _metadata(body.get("metadata")),
        _output_expires_s(body.get("output_expires_after")),
    )


def batch_document(batch: KeptBatch, totals: LineTotals) -> dict[str, Any]:
    """Return a batch as clients see it. `totals`: over the lines that have ended."""
    times = {name: batch.times.get(name) for name in _TIMES}
    return {
        "id": batch.batch_id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": list(batch.errors)} if batch.errors else None,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status,
        "output_file_id": batch.output_file_id if totals.num_completed else None,
        "error_file_id": batch.error_file_id if totals.num_failed else None,
        "created_at": int(batch.created_at),
        "expires_at": int(batch.expires_at),
        **{f"{name}_at": None if at is None else int(at) for name, at in times.items()},
        "request_counts": {
            "total": batch.num_lines,
            "completed": totals.num_completed,
            "failed": totals.num_failed,
        },
        "metadata": batch.metadata,
    }


def _endpoint(written: Any) -> str:
    if isinstance(written, str) and (written in MODEL_ENDPOINTS or flow_of(written)):
        return written
    known = ", ".join((*MODEL_ENDPOINTS, f"{FLOW_ENDPOINT}NAME"))
    raise wrong_request("endpoint", f"it is one of {known}", code="invalid_endpoint")


def _window_s(written: Any) -> float:
    found = _WINDOW.fullmatch(written) if isinstance(written, str) else None
    seconds = 0.0 if found is None else int(found[1]) * _UNITS_S[found[2]]
    if not 0 < seconds <= MAX_WINDOW_S:
        what = "it is a time of 30 days at most, as '24h', '90m' or '7d'"
        raise wrong_request("completion_window", what, code="invalid_completion_window")
    return seconds


def _metadata(written: Any) -> dict[str, str] | None:
    if written is None:
        return None
    if not isinstance(written, Mapping) or len(written) > MAX_PAIRS:
        raise wrong_request("metadata", f"it is an object of at most {MAX_PAIRS} pairs")
    for name, value in written.items():
        if not isinstance(value, str) or len(value) > MAX_VALUE_CHARACTERS or len(name) > MAX_NAME_CHARACTERS:
            what = f"names have {MAX_NAME_CHARACTERS} characters at most, values are texts of {MAX_VALUE_CHARACTERS}"
            raise wrong_request("metadata", what)
    return {whole_text(name): whole_text(value) for name, value in written.items()}


def _output_expires_s(written: Any) -> float | None:
    if written is None:
        return None
    if not isinstance(written, Mapping):
        raise wrong_request("output_expires_after", "it is an object with `anchor` and `seconds`")
    return expires_after(written.get("anchor"), written.get("seconds"), "output_expires_after")
