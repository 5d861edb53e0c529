"""The description of the doors of flows, files and batches in the form of OpenAPI 3.1.

Owns what programs are told of requests and answers before they send any. Never knows what is served beyond names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sundog.serve.wire.descriptions.batches import batch_paths
from sundog.serve.wire.flow_runs import MAX_DEADLINE_S, MAX_ROWS, MAX_TOKENS, MAX_USD

OPENAPI_VERSION = "3.1.0"
JSON = "application/json"
REFUSALS = {
    "400": "The request is wrong; the error names the field.",
    "404": "There is no such flow, or no such run.",
    "413": "The body is too large.",
    "422": "A row does not fit the columns of the flow, or the key was sent before with other rows.",
    "429": "There is no room for these rows now; Retry-After says when to come again.",
    "503": "The server is stopping.",
}
REFUSALS_OF_KEYS = {"401": "There is no valid key.", "403": "The key may not use this flow."}
SCHEME = "key"
"""The name of the security scheme: an API key as `Authorization: Bearer KEY`."""
PARAMETERS = (
    ("Prefer", "`respond-async` accepts the rows and answers at once, or after `wait=SECONDS`."),
    ("Idempotency-Key", "Rows that are sent again with their key are not run again: the first run is the answer."),
)
LAST_EVENT = ("Last-Event-ID", "With `Accept: text/event-stream`: the events behind this one.")


@dataclass(frozen=True, slots=True)
class FlowForm:
    """A flow as clients see it."""

    name: str
    #: The columns that a row must have.
    columns: tuple[str, ...]
    #: The names of its outputs.
    outputs: tuple[str, ...]


def openapi_document(flows: Sequence[FlowForm], version: str, *, has_keys: bool = False) -> dict[str, Any]:
    """Return the description of all flows, files and batches, for a server of this version of sundog. `has_keys`: it
    asks for a key."""
    paths: dict[str, Any] = {}
    for flow in flows:
        runs = f"/v1/flows/{flow.name}/runs"
        paths[runs] = {"post": _post(flow)}
        found = {"200": _answer("The run as it is now.", _run(flow))} | _refusals("404")
        run_id = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
        shown = {"tags": [flow.name], "parameters": [run_id], "responses": found}
        read = {"operationId": f"get_{flow.name}", "summary": f"A run of {flow.name}, as it is or as it goes on"}
        end = {"operationId": f"cancel_{flow.name}", "summary": f"Cancel a run of {flow.name}"}
        paths[f"{runs}/{{id}}"] = {
            "get": read | shown | {"parameters": [run_id, _header(*LAST_EVENT)]},
            "delete": end | shown,
        }
    paths |= batch_paths()
    document: dict[str, Any] = {
        "openapi": OPENAPI_VERSION,
        "info": {"title": "sundog", "version": version},
        "paths": paths,
        "components": {"schemas": {"Error": _error()}},
    }
    if has_keys:
        document["components"]["securitySchemes"] = {SCHEME: {"type": "http", "scheme": "bearer"}}
        document["security"] = [{SCHEME: []}]
        for operation in (one for path in paths.values() for one in path.values()):
            operation["responses"] |= _refusals(*REFUSALS_OF_KEYS, of=REFUSALS_OF_KEYS)
    return document


def _post(flow: FlowForm) -> dict[str, Any]:
    answers = {
        "200": _answer("All rows have ended; with `stream`, the events until they have.", _run(flow)),
        "202": _answer("The rows are accepted; Location says where the run is found.", _run(flow)),
    }
    answers["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    return {
        "operationId": f"run_{flow.name}",
        "summary": f"Run rows of {flow.name}",
        "tags": [flow.name],
        "parameters": [_header(*one) for one in PARAMETERS],
        "requestBody": {"required": True, "content": {JSON: {"schema": _wanted(flow)}}},
        "responses": answers | _refusals(*REFUSALS),
    }


def _wanted(flow: FlowForm) -> dict[str, Any]:
    row: dict[str, Any] = {
        "type": "object",
        "properties": {column: {} for column in flow.columns},
        "required": list(flow.columns),
    }
    fields = {
        "row": row,
        "rows": {"type": "array", "items": row, "minItems": 1, "maxItems": MAX_ROWS},
        "stream": {"type": "boolean", "default": False},
        "deadline_s": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": MAX_DEADLINE_S},
        "max_usd": {"type": ["number", "null"], "minimum": 0, "maximum": MAX_USD},
        "max_tokens": {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_TOKENS},
        "priority": {"type": "integer", "default": 0, "description": "Smaller is sooner."},
    }
    one_of = [{"required": ["row"]}, {"required": ["rows"]}]
    return {"type": "object", "properties": fields, "additionalProperties": False, "oneOf": one_of}


def _run(flow: FlowForm) -> dict[str, Any]:
    output = {"type": "object", "properties": {name: {} for name in flow.outputs}}
    fields = {"node": {"type": "string"}, "cause": {"type": "string"}, "hint": {"type": "string"}}
    states = {"type": "string", "enum": ["done", "failed", "dropped"]}
    failure = {"type": "object", "properties": fields}
    row = {"index": {"type": "integer"}, "state": states, "output": output, "error": failure}
    row_form = {"type": "object", "properties": row, "required": ["index", "state"]}
    counts = {"type": "object", "additionalProperties": {"type": "integer"}}
    run = {
        "id": {"type": "string"},
        "object": {"const": "flow.run"},
        "flow": {"const": flow.name},
        "status": {"type": "string", "enum": ["running", "completed", "cancelled"]},
        "created_at": {"type": "integer", "description": "Seconds since the epoch."},
        "num_rows": {"type": "integer"},
        "counts": counts,
        "row": {"anyOf": [row_form, {"type": "null"}]},
        "rows": {"type": "array", "items": row_form},
    }
    needed = ["id", "object", "flow", "status", "created_at", "num_rows", "counts"]
    return {"type": "object", "properties": run, "required": needed}


def _error() -> dict[str, Any]:
    text, maybe = {"type": "string"}, {"type": ["string", "null"]}
    fields = {"message": text, "type": text, "param": maybe, "code": maybe}
    error = {"type": "object", "properties": fields, "required": list(fields)}
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}


def _refusals(*statuses: str, of: Mapping[str, str] = REFUSALS) -> dict[str, Any]:
    return {status: _answer(of[status], {"$ref": "#/components/schemas/Error"}) for status in statuses}


def _answer(what: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": what, "content": {JSON: {"schema": schema}}}


def _header(name: str, what: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": what, "schema": {"type": "string"}}
