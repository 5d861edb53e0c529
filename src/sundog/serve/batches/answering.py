"""The lines of batches at work: each is answered as if its maker had sent it alone.

Owns what a line becomes inside this process. Never decides whether a line is tried again.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from typing import Protocol

from pydantic_core import from_json, to_json

from sundog.access.api_keys import APIKeys
from sundog.access.principal import Principal
from sundog.live.accounts import AccountsHeld
from sundog.live.flow import LiveFlow
from sundog.live.flow_request import FlowRequest
from sundog.live.models import UnknownModel
from sundog.live.refusals import KeyReused, Overloaded
from sundog.live.terms import Terms
from sundog.serve.batches.attempts import GONE, Attempted
from sundog.serve.doors.models.asked import AskedHead
from sundog.serve.doors.models.door import FORMS, ModelDoor
from sundog.serve.doors.models.reply import HeldReply
from sundog.serve.flow_answers import as_request, key_reused, no_room, shown_run
from sundog.serve.guard import accounts_held, scope_of
from sundog.serve.serving import Serving
from sundog.serve.wire.batches.lines import BatchLine, LineRules
from sundog.serve.wire.batches.requests import flow_of
from sundog.serve.wire.errors import Refusal, openai_error
from sundog.serve.wire.flow_runs import WantedRun, read_wanted
from sundog.store.accepted import Accepted
from sundog.store.batches import KeptBatch

REMEMBERED_S = 1.0
"""A key that was revoked pays for no further line so much later, at most."""


class LineWork(Protocol):
    """This class answers the lines of one batch."""

    async def attempt(self, line: BatchLine) -> Attempted:
        """Return what an attempt at a line comes to. Where it is cancelled after `leave`, it ends as soon as the truth
        is known of what it has begun."""
        ...

    def leave(self) -> None:
        """Nobody wants what is at work."""
        ...

    def rules(self) -> LineRules | None:
        """Return what its lines are measured with, None where that is not served now; Refusal where its payer may not
        use it."""
        ...


def work_of(batch: KeptBatch, serving: Serving, models: ModelDoor) -> LineWork:
    """Return what answers the lines of a batch."""
    flow, payer = flow_of(batch.endpoint), Payer(batch.principal, APIKeys(serving.host.store))
    if flow is None:
        return ModelLines(batch.endpoint, serving, models, payer)
    return FlowLines(flow, batch, serving, payer)


class Payer:
    """This class knows who has made a batch, and so pays for it. `key_id` is "" where the server had no keys."""

    def __init__(self, key_id: str, keys: APIKeys) -> None:
        self._key_id = key_id
        self._keys = keys
        self._found: Principal | None = None
        self._looked_at_s = 0.0

    def now(self) -> Principal | None:
        """Return whose key it is, None without keys; Refusal where the key has ended."""
        if not self._key_id:
            return None
        now = time.time()
        if now - self._looked_at_s >= REMEMBERED_S:
            self._found, self._looked_at_s = self._keys.principal(self._key_id, now), now
        if self._found is None:
            what = "the key that the batch was made with was revoked, or has expired"
            raise Refusal(401, what, code="invalid_api_key", is_final=True)
        return self._found


class ModelLines:
    """This class answers lines for models."""

    def __init__(self, endpoint: str, serving: Serving, models: ModelDoor, payer: Payer) -> None:
        self._endpoint = endpoint
        self._form = FORMS[endpoint.removeprefix("/v1")]
        self._serving = serving
        self._models = models
        self._payer = payer

    async def attempt(self, line: BatchLine) -> Attempted:
        try:
            asked = AskedHead(scope_of(self._payer.now()), tier="batch")
            self._serving.host.models.pool_of(line.body["model"])
        except Refusal as refusal:
            return _refused(refusal)
        except UnknownModel:
            return GONE
        reply = HeldReply()
        await self._models.answer(self._form, asked, to_json(line.body), reply)
        return Attempted(reply.status, reply.body if reply.status == 200 else _json_of(reply.body), reply.headers)

    def leave(self) -> None:
        """The core takes back calls whose tasks are cancelled."""

    def rules(self) -> LineRules:
        payer = self._payer.now()
        names = {name for name, _ in self._serving.host.models.names() if payer is None or payer.allows_model(name)}
        return LineRules(self._endpoint, models=names)


class FlowLines:
    """This class answers lines for a flow: each is a request of its own, known by the batch and the line's number."""

    def __init__(self, flow: str, batch: KeptBatch, serving: Serving, payer: Payer) -> None:
        self._name = flow
        self._batch = batch
        self._serving = serving
        self._payer = payer
        self._is_left = False

    async def attempt(self, line: BatchLine) -> Attempted:
        flow = self._serving.host.flows.get(self._name)
        if flow is None:
            return GONE
        try:
            payer = self._allowed_payer()
            wanted = read_wanted(line.body, self._serving.loaded[self._name].columns)
            sender = ("", 1.0) if payer is None else (payer.tenant, payer.weight)
            limits = wanted.max_usd, wanted.max_tokens
            terms = Terms(*sender, wanted.priority, self._deadline_at(wanted), "batch", *limits)
            found = await self._ran(flow, line.number, wanted, terms)
        except Refusal as refusal:
            return _refused(refusal)
        request = as_request(flow, found)
        shown = shown_run(self._serving.host, flow, request)
        num_failed = shown["counts"]["failed"]
        error = None
        if num_failed:
            error = {"code": "row_failed", "message": f"{num_failed:,} of {request.num_rows:,} rows have failed"}
        return Attempted(200, to_json(shown), error=error)

    def leave(self) -> None:
        self._is_left = True

    def rules(self) -> LineRules | None:
        self._allowed_payer()
        loaded = self._serving.loaded.get(self._name)
        return None if loaded is None else LineRules(self._batch.endpoint, columns=loaded.columns)

    def _allowed_payer(self) -> Principal | None:
        payer = self._payer.now()
        if payer is not None and not payer.allows_flow(self._name):
            raise Refusal(403, f"this key may not use the flow '{self._name}'", code="flow_not_allowed", is_final=True)
        return payer

    def _deadline_at(self, wanted: WantedRun) -> float:
        own_s = math.inf if wanted.deadline_s is None else wanted.deadline_s
        return min(self._batch.expires_at, time.time() + own_s)

    async def _ran(self, flow: LiveFlow, number: int, wanted: WantedRun, terms: Terms) -> FlowRequest | Accepted:
        """Return the request of a line when it has ended. It is accepted once, however often this is tried."""
        accepting = asyncio.ensure_future(
            flow.accept(
                wanted.rows,
                terms,
                principal=self._batch.principal,
                idempotency_key=f"{self._batch.batch_id}/{number}",
                is_single=wanted.is_single,
            )
        )
        try:
            return await self._ended(flow, accepting)
        except Overloaded as error:
            raise no_room(flow, len(wanted.rows), error) from error
        except KeyReused as error:
            raise key_reused(error) from error
        except AccountsHeld as error:
            raise accounts_held(error) from error

    async def _ended(self, flow: LiveFlow, accepting: asyncio.Future[FlowRequest | Accepted]) -> FlowRequest | Accepted:
        try:
            found = await asyncio.shield(accepting)
            if isinstance(found, FlowRequest):
                await found.ended()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not self._is_left:
                raise
            # An effect may have happened: the rows end, and the line tells how.
            task.uncancel()
            found = await accepting
            if isinstance(found, FlowRequest):
                await flow.cancel(found)
        return found


def request_id() -> str:
    """Return a new id for the answer to a line."""
    return f"req_{uuid.uuid4().hex}"


def _refused(refusal: Refusal) -> Attempted:
    return Attempted(refusal.status, to_json(openai_error(refusal)), refusal.headers())


def _json_of(body: bytes) -> bytes:
    """Return a body that is JSON. A server behind this one may tell of a failure in any words."""
    try:
        from_json(body)
    except ValueError:
        return to_json({"error": {"message": body[:2000].decode("utf-8", "replace")}})
    return body
