"""The lines of batches: what makes one right, and what is told of its end.

Owns these forms. Never reads a file and never runs a line.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from sundog.errors import suggest
from sundog.serve.wire.errors import Refusal
from sundog.serve.wire.flow_runs import read_wanted

MAX_LINE_BYTES = 32 * 2**20
MAX_ID_CHARACTERS = 512


@dataclass(frozen=True, slots=True)
class LineRules:
    """The rules that the lines of one batch are measured with."""

    endpoint: str
    #: The names of models that its maker may ask.
    models: Collection[str] = ()
    #: The columns of the rows of its flow, None for a batch of models.
    columns: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One line of a batch that is right."""

    #: Its number in the file, from 1.
    number: int
    custom_id: str
    body: dict[str, Any]


def read_line(number: int, raw: bytes) -> BatchLine:
    """Return a line that was found right before, without looking at it anew."""
    line = from_json(raw)
    return BatchLine(number, line["custom_id"], line["body"])


def checked_line(raw: bytes, rules: LineRules) -> str:
    """Return the `custom_id` of a line; Refusal where something is wrong with it."""
    try:
        line = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise _wrong(None, f"the line is no JSON: {error}", "invalid_json_line") from error
    if not isinstance(line, dict):
        raise _wrong(None, "the line is no JSON object", "invalid_json_line")
    custom_id, body = line.get("custom_id"), line.get("body")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= MAX_ID_CHARACTERS:
        raise _wrong("custom_id", f"it is a text of 1 to {MAX_ID_CHARACTERS} characters", "invalid_custom_id")
    if line.get("method") != "POST":
        raise _wrong("method", "it has to be 'POST'", "invalid_method")
    if line.get("url") != rules.endpoint:
        raise _wrong("url", f"it has to be the endpoint of the batch, '{rules.endpoint}'", "mismatched_endpoint")
    if not isinstance(body, dict):
        raise _wrong("body", "it has to be an object", "invalid_body")
    if body.get("stream"):
        raise _wrong("body.stream", "the answers of a batch are no streams", "stream_not_supported")
    if rules.columns is not None:
        read_wanted(body, rules.columns)
    else:
        _check_model(body.get("model"), rules.models)
    return custom_id


def line_error(refusal: Refusal, number: int | None) -> dict[str, Any]:
    """Return what is wrong with a line as a batch tells it; without a number, with the whole file."""
    code = refusal.code or "invalid_request"
    return {"code": code, "message": refusal.message, "param": refusal.param, "line": number}


def answered_line(
    batch_id: str, line: BatchLine, status: int, request_id: str, body: bytes, error: dict[str, Any] | None = None
) -> bytes:
    """Return the line that tells of an answer. `body`: JSON."""
    head = to_json({"id": _line_id(batch_id, line.number), "custom_id": line.custom_id})
    response = to_json({"status_code": status, "request_id": request_id})
    # A line break in JSON stands between its parts, never inside a text.
    one_line = body.replace(b"\n", b" ").replace(b"\r", b" ")
    pieces = (head[:-1], b',"response":', response[:-1], b',"body":', one_line, b'},"error":', to_json(error), b"}\n")
    return b"".join(pieces)


def unanswered_line(batch_id: str, line: BatchLine, code: str, message: str) -> bytes:
    """Return the line that tells why there is no answer."""
    head = {"id": _line_id(batch_id, line.number), "custom_id": line.custom_id}
    return to_json({**head, "response": None, "error": {"code": code, "message": message}}) + b"\n"


def _line_id(batch_id: str, number: int) -> str:
    return f"batch_req_{batch_id.removeprefix('batch_')}_{number}"


def _check_model(model: Any, models: Collection[str]) -> None:
    if not isinstance(model, str):
        raise _wrong("body.model", "it is the name of a model", "model_not_found")
    if model not in models:
        what = f"there is no model '{model[:80]}' that this key may use; {suggest(model[:80], models)}"
        raise _wrong("body.model", what, "model_not_found")


def _wrong(param: str | None, what: str, code: str) -> Refusal:
    message = what if param is None else f"{param}: {what}"
    return Refusal(400, message, param=param, code=code, is_final=True)
