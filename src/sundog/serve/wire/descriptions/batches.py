"""The description of the doors of files and batches in the form of OpenAPI 3.1.

Owns what programs are told of them. Never describes flows.
"""

from __future__ import annotations

from typing import Any

from sundog.serve.wire.batches.files import BATCH
from sundog.serve.wire.batches.requests import MAX_PAIRS

_JSON = "application/json"
_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": "integer"}
_MAYBE_TEXT: dict[str, Any] = {"type": ["string", "null"]}
_MAYBE_NUMBER: dict[str, Any] = {"type": ["integer", "null"]}
_STATES = ("validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled")
_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
_ID = {"name": "id", "in": "path", "required": True, "schema": _TEXT}
_PAGE = [{"name": name, "in": "query", "schema": schema} for name, schema in (("limit", _NUMBER), ("after", _TEXT))]
_REFUSALS = {
    "400": "The request is wrong; the error names the field.",
    "404": "There is no such file, or no such batch.",
    "409": "The file is needed by a batch, or the batch has ended.",
    "413": "The file is too large.",
    "429": "Too many batches have not ended.",
    "503": "The server is stopping, or another one works on the batches of its state folder.",
}


def batch_paths() -> dict[str, Any]:
    """Return the paths of files and batches, with what is sent and answered there."""
    file, batch = _file(), _batch()
    deleted = {"id": _TEXT, "object": {"const": "file"}, "deleted": {"const": True}}
    return {
        "/v1/files": {
            "post": _operation("files", "send_file", "Send a file", file, "400", "413", "503", body=_form()),
            "get": _operation("files", "list_files", "List files", _list_of(file), "400", parameters=_PAGE),
        },
        "/v1/files/{id}": {
            "get": _operation("files", "get_file", "Show a file", file, "404", parameters=[_ID]),
            "delete": _operation(
                "files", "delete_file", "Delete a file", _object(deleted), "404", "409", parameters=[_ID]
            ),
        },
        "/v1/files/{id}/content": {
            "get": _operation("files", "read_file", "Read a file", None, "404", parameters=[_ID]),
        },
        "/v1/batches": {
            "post": _operation(
                "batches", "create_batch", "Create a batch", batch, "400", "404", "429", "503", body=_wanted()
            ),
            "get": _operation("batches", "list_batches", "List batches", _list_of(batch), "400", parameters=_PAGE),
        },
        "/v1/batches/{id}": {
            "get": _operation("batches", "get_batch", "Show a batch", batch, "404", parameters=[_ID]),
        },
        "/v1/batches/{id}/cancel": {
            "post": _operation(
                "batches", "cancel_batch", "Cancel a batch", batch, "404", "409", "503", parameters=[_ID]
            ),
        },
    }


def _operation(
    tag: str,
    name: str,
    summary: str,
    answer: dict[str, Any] | None,
    *refusals: str,
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    kind, schema = (_JSON, answer) if answer is not None else ("application/octet-stream", _TEXT)
    error = {"content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
    answers = {"200": {"description": "It is done.", "content": {kind: {"schema": schema}}}}
    told: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "tags": [tag],
        "responses": {**answers, **{status: {"description": _REFUSALS[status], **error} for status in refusals}},
    }
    if parameters is not None:
        told["parameters"] = parameters
    if body is not None:
        told["requestBody"] = {"required": True, "content": body}
    return told


def _form() -> dict[str, Any]:
    fields = {
        "file": {"type": "string", "contentMediaType": "application/octet-stream"},
        "purpose": {"const": BATCH},
        "expires_after[anchor]": {"const": "created_at"},
        "expires_after[seconds]": _TEXT,
    }
    return {"multipart/form-data": {"schema": _object(fields, "file", "purpose")}}


def _wanted() -> dict[str, Any]:
    expires = _object({"anchor": {"const": "created_at"}, "seconds": _NUMBER}, "anchor", "seconds")
    fields = {
        "input_file_id": _TEXT,
        "endpoint": _TEXT,
        "completion_window": {"type": "string", "pattern": r"^[1-9]\d*[smhd]$"},
        "metadata": {"type": ["object", "null"], "additionalProperties": _TEXT, "maxProperties": MAX_PAIRS},
        "output_expires_after": {"anyOf": [expires, {"type": "null"}]},
    }
    schema = _object(fields, "input_file_id", "endpoint", "completion_window") | {"additionalProperties": False}
    return {_JSON: {"schema": schema}}


def _file() -> dict[str, Any]:
    texts = dict.fromkeys(("id", "filename", "purpose", "status"), _TEXT)
    fields = {**texts, "object": {"const": "file"}, "bytes": _NUMBER, "created_at": _NUMBER}
    return _object({**fields, "expires_at": _MAYBE_NUMBER}, *fields)


def _batch() -> dict[str, Any]:
    counts = _object(dict.fromkeys(("total", "completed", "failed"), _NUMBER), "total", "completed", "failed")
    error = _object({"code": _TEXT, "message": _TEXT, "param": _MAYBE_TEXT, "line": _MAYBE_NUMBER})
    errors = _object({"object": {"const": "list"}, "data": {"type": "array", "items": error}})
    texts = dict.fromkeys(("id", "endpoint", "input_file_id", "completion_window"), _TEXT)
    needed = {
        **texts,
        "object": {"const": "batch"},
        "status": {"type": "string", "enum": list(_STATES)},
        "created_at": _NUMBER,
        "expires_at": _NUMBER,
        "request_counts": counts,
    }
    others: dict[str, Any] = {
        **dict.fromkeys(("output_file_id", "error_file_id"), _MAYBE_TEXT),
        **{f"{name}_at": _MAYBE_NUMBER for name in _TIMES},
        "errors": {"anyOf": [errors, {"type": "null"}]},
        "metadata": {"type": ["object", "null"], "additionalProperties": _TEXT},
    }
    return _object({**needed, **others}, *needed, *others)


def _list_of(item: dict[str, Any]) -> dict[str, Any]:
    fields = {
        "object": {"const": "list"},
        "data": {"type": "array", "items": item},
        "first_id": _MAYBE_TEXT,
        "last_id": _MAYBE_TEXT,
        "has_more": {"type": "boolean"},
    }
    return _object(fields, *fields)


def _object(fields: dict[str, Any], *needed: str) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(needed)}
