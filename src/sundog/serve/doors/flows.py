"""The door of flows: rows come in, and are answered when done, as they end, or later.

Owns what of HTTP means what. The life of a request is live.flow's affair.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sundog.errors import suggest
from sundog.live.accounts import AccountsHeld
from sundog.live.flow import LiveFlow
from sundog.live.flow_request import FlowRequest, Told
from sundog.live.refusals import KeyReused, Overloaded
from sundog.live.terms import Terms
from sundog.serve.bodies import json_response, parse_json_body, read_body
from sundog.serve.flow_answers import as_request, key_reused, no_room, shown_rows, shown_run
from sundog.serve.guard import accounts_held, owner_of, principal_of
from sundog.serve.loading import LoadedFlow
from sundog.serve.seeing.request_log import RequestNotes, notes_of
from sundog.serve.serving import Serving
from sundog.serve.wire.errors import Refusal, wrong_request
from sundog.serve.wire.flow_runs import WantedRun, read_wanted, row_document
from sundog.serve.wire.sse import KEEP_ALIVE, event_bytes
from sundog.store.accepted import Accepted

KEEP_ALIVE_S = 15.0
MAX_KEY_CHARACTERS = 255
_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d+)", re.I)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
EVENT_STREAM = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class FlowDoor:
    """This class answers for the flows that are served."""

    def __init__(self, serving: Serving) -> None:
        self._host = serving.host
        self._loaded = serving.loaded
        runs = "/v1/flows/{name}/runs"
        self.routes = [
            Route(runs, self.post, methods=["POST"]),
            Route(runs + "/{id}", self.get, methods=["GET"]),
            Route(runs + "/{id}", self.cancel, methods=["DELETE"]),
            Route(runs + "/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/v1/flows", self.list, methods=["GET"]),
            Route("/v1/flows/{name}", self.describe, methods=["GET"]),
        ]

    async def list(self, request: Request) -> Response:
        principal = principal_of(request.scope)
        found = [flow for flow in self._loaded.values() if principal is None or principal.allows_flow(flow.name)]
        return json_response({"object": "list", "data": [_described(flow) for flow in found]})

    async def describe(self, request: Request) -> Response:
        self._flow(request)
        return json_response(_described(self._loaded[request.path_params["name"]]))

    async def post(self, request: Request) -> Response:
        """Accept rows, and answer as the client would like it."""
        flow, now = self._flow(request), time.time()
        wanted = read_wanted(parse_json_body(await read_body(request)), self._loaded[flow.name].columns)
        deadline_at = None if wanted.deadline_s is None else now + wanted.deadline_s
        is_async, wait_s = _preference(request)
        try:
            if (principal := principal_of(request.scope)) is not None:
                self._host.accounts.of(principal.scopes)
            accepted = await flow.accept(
                wanted.rows,
                Terms(
                    _tenant(request),
                    1.0 if principal is None else principal.weight,
                    wanted.priority,
                    deadline_at,
                    max_usd=wanted.max_usd,
                    max_tokens=wanted.max_tokens,
                    traceparent=self._trace_of(request),
                ),
                principal=owner_of(request.scope),
                idempotency_key=_key(request),
                keeps_steps=wanted.is_streamed,
                is_single=wanted.is_single,
            )
        except Overloaded as error:
            raise no_room(flow, len(wanted.rows), error) from error
        except KeyReused as error:
            raise key_reused(error) from error
        except AccountsHeld as error:
            raise accounts_held(error) from error
        answer = await self._answer(flow, accepted, wanted, is_async=is_async, wait_s=wait_s)
        _note(notes_of(request.scope), accepted)
        return answer

    def _trace_of(self, request: Request) -> str:
        """Return the trace that a client tells of, where somebody traces: rows keep it over restarts."""
        told = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
        if told is None or self._host.tracing is None:
            return ""
        notes_of(request.scope).trace_id = told.group(1)
        return told.group()

    async def get(self, request: Request) -> Response:
        """Return a run as it is now, or as it goes on."""
        flow = self._flow(request)
        found = self._found(flow, request)
        if "text/event-stream" in request.headers.get("accept", ""):
            return self._stream(flow, as_request(flow, found), request.headers.get("last-event-id", ""))
        return json_response(self._document(flow, found))

    async def cancel(self, request: Request) -> Response:
        """End the rows that have not ended, and return the run."""
        flow = self._flow(request)
        found = self._found(flow, request)
        if isinstance(found, FlowRequest):
            await flow.cancel(found)
        return json_response(self._document(flow, found))

    async def _answer(
        self, flow: LiveFlow, accepted: FlowRequest | Accepted, wanted: WantedRun, *, is_async: bool, wait_s: float
    ) -> Response:
        if wanted.is_streamed:
            return self._stream(flow, as_request(flow, accepted))
        if isinstance(accepted, FlowRequest):
            try:
                async with asyncio.timeout(wait_s if is_async else None):
                    await accepted.ended()
            except TimeoutError:
                headers = {
                    "location": f"/v1/flows/{flow.name}/runs/{accepted.accepted.request_id}",
                    "preference-applied": "respond-async",
                    "retry-after": "1",
                }
                return json_response(self._document(flow, accepted), 202, headers)
        return json_response(self._document(flow, accepted))

    def _stream(self, flow: LiveFlow, request: FlowRequest, last_event: str = "") -> Response:
        events = self._events(flow, request, _told_until(request, last_event))
        return StreamingResponse(events, media_type="text/event-stream", headers=EVENT_STREAM)

    async def _events(self, flow: LiveFlow, request: FlowRequest, after: int) -> AsyncIterator[bytes]:
        begun = {"id": request.accepted.request_id, "flow": flow.name, "num_rows": request.num_rows}
        if after < 0:
            yield event_bytes(begun, event="run")
        told = request.told(after)
        coming = asyncio.ensure_future(anext(told, None))
        try:
            while True:
                done, _ = await asyncio.wait([coming], timeout=KEEP_ALIVE_S)
                if not done:
                    yield KEEP_ALIVE
                    continue
                one = coming.result()
                if one is None:
                    return
                yield self._event(flow, request, one)
                coming = asyncio.ensure_future(anext(told, None))
        finally:
            coming.cancel()

    def _event(self, flow: LiveFlow, request: FlowRequest, told: Told) -> bytes:
        match told.kind:
            case "step":
                data = {"index": told.row, "step": told.step, "value": told.value}
            case "row":
                data = row_document(told.row, shown_rows(self._host, request.ends)[told.row])
            case "end":
                data = {**self._document(flow, request)}
                data.pop("rows", None)
                data.pop("row", None)
        return event_bytes(data, event=told.kind, id=f"{request.epoch}-{told.number}")

    def _flow(self, request: Request) -> LiveFlow:
        name, principal = request.path_params["name"], principal_of(request.scope)
        if principal is not None and not principal.allows_flow(name):
            raise Refusal(403, f"this key may not use the flow '{name}'", code="flow_not_allowed", is_final=True)
        flow = self._host.flows.get(name)
        if flow is None:
            what = f"there is no flow '{name}'; {suggest(name, self._host.flows)}"
            raise Refusal(404, what, param="flow", code="flow_not_found", is_final=True)
        notes_of(request.scope).flow = name
        return flow

    def _found(self, flow: LiveFlow, request: Request) -> FlowRequest | Accepted:
        request_id = request.path_params["id"]
        found = flow.find(request_id)
        if found is None or _sender(found) != owner_of(request.scope):
            what = f"the flow '{flow.name}' has no run '{request_id}'"
            raise Refusal(404, what, param="id", code="run_not_found", is_final=True)
        return found

    def _document(self, flow: LiveFlow, found: FlowRequest | Accepted) -> dict[str, Any]:
        return shown_run(self._host, flow, as_request(flow, found))


def _note(notes: RequestNotes, accepted: FlowRequest | Accepted) -> None:
    if not isinstance(accepted, FlowRequest):
        notes.run = accepted.request_id
        return
    notes.run = accepted.accepted.request_id
    if accepted.has_ended:
        asked = [one for end in accepted.ends.values() for one in end.asked]
        notes.num_prompt_tokens = sum(one.num_prompt_tokens for one in asked)
        notes.num_output_tokens = sum(one.num_output_tokens for one in asked)


def _tenant(request: Request) -> str:
    principal = principal_of(request.scope)
    return "" if principal is None else principal.tenant


def _sender(found: FlowRequest | Accepted) -> str:
    """Return the id of the key that a run was sent with, "" without keys."""
    return found.accepted.principal if isinstance(found, FlowRequest) else found.principal


def _described(flow: LoadedFlow) -> dict[str, Any]:
    return {"id": flow.name, "object": "flow", "columns": list(flow.columns), "outputs": list(flow.outputs)}


def _preference(request: Request) -> tuple[bool, float]:
    """Return whether the client would rather have the answer later, and for how many seconds it waits before that (RFC
    7240)."""
    prefer = ",".join(request.headers.getlist("prefer"))
    wait = _WAIT.search(prefer)
    return "respond-async" in prefer.lower(), float(wait.group(1)) if wait else 0.0


def _key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        raise wrong_request("Idempotency-Key", f"it has 1 to {MAX_KEY_CHARACTERS} characters")
    return key


def _told_until(request: FlowRequest, last_event: str) -> int:
    """Return the number of the last event that a reader has had, -1 where it has had none of these."""
    epoch, _, number = last_event.partition("-")
    return int(number) if epoch == request.epoch and re.fullmatch(r"\d{1,9}", number, re.ASCII) else -1
