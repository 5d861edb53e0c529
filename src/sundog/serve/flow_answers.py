"""The answers that clients of flows get: runs as documents, and refusals.

Owns what the host's words for a request are on the wire. Never accepts one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sundog.live.flow import LiveFlow
from sundog.live.flow_request import FlowRequest
from sundog.live.host import LiveHost
from sundog.live.refusals import KeyReused, Overloaded
from sundog.serve.wire.errors import Refusal, wrong_request
from sundog.serve.wire.flow_runs import ShownRow, run_document
from sundog.store.accepted import Accepted


def as_request(flow: LiveFlow, found: FlowRequest | Accepted) -> FlowRequest:
    """Return a request of a flow, also one that has ended and is kept."""
    return found if isinstance(found, FlowRequest) else flow.as_ended(found)


def shown_rows(host: LiveHost, ends: Mapping[int, Any]) -> dict[int, ShownRow]:
    """Return rows that have ended, by place, as clients see them."""
    return {place: ShownRow(end.state, host.decoded(end.body)) for place, end in ends.items()}


def shown_run(host: LiveHost, flow: LiveFlow, request: FlowRequest) -> dict[str, Any]:
    """Return a request as it is now, as clients see it."""
    status = "running"
    if request.has_ended:
        status = "cancelled" if request.is_cancelled else "completed"
    return run_document(
        request.accepted.request_id,
        flow.name,
        status,
        accepted_at=request.accepted.accepted_at,
        num_rows=request.num_rows,
        is_single=request.is_single,
        ended=shown_rows(host, request.ends),
    )


def no_room(flow: LiveFlow, num_rows: int, error: Overloaded) -> Refusal:
    """Return why a flow has not accepted rows."""
    if flow.is_stopping:
        return Refusal(503, error.what, code="stopping", retry_after_s=error.retry_after_s)
    if num_rows > flow.max_rows:
        what = f"the flow '{flow.name}' works on {flow.max_rows:,} rows at once, and these are {num_rows:,}"
        return wrong_request("rows", what, hint="send fewer in a request")
    return Refusal(429, error.what, code="overloaded", retry_after_s=error.retry_after_s)


def key_reused(error: KeyReused) -> Refusal:
    """Return the refusal of a key that came before with other rows."""
    message = f"{error.what} (run {error.where}); {error.hint}"
    return Refusal(422, message, param="Idempotency-Key", code="idempotency_key_reused", is_final=True)
