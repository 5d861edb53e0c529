"""The door of models: `/v1/chat/completions` and its siblings over all kinds of engines.

Owns the way of a request from its bytes to the core. Which engine answers, and when, the core decides.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sundog.access.principal import Principal
from sundog.deployment import opened
from sundog.engines.base import Engine, GenerateRequest, Usage
from sundog.engines.embeddings import EmbeddingEngine
from sundog.engines.forwarding import is_forwarding
from sundog.errors import SundogError
from sundog.execution.calls.payment import Payment
from sundog.host.attempt import Success
from sundog.host.prefix_key import prefix_key_of
from sundog.live.accounts import AccountsHeld
from sundog.live.models import ModelCall, UnknownModel
from sundog.live.refusals import Overloaded
from sundog.sched.events import Submit, WorkflowEnded
from sundog.sched.facts import CallFacts
from sundog.serve.bodies import json_response, parse_json_body, read_body, received_body
from sundog.serve.connections.held_bodies import held_body
from sundog.serve.doors.models.asked import AskedHead
from sundog.serve.doors.models.exchange import JSON, Exchange
from sundog.serve.doors.models.forms import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, WireForm
from sundog.serve.doors.models.kept_responses import KeptResponses
from sundog.serve.doors.models.own_engines import OwnCall, abilities_of, own_call
from sundog.serve.doors.models.paying import Payers, Paying
from sundog.serve.doors.models.programs import ProgramPlace, Programs
from sundog.serve.doors.models.prompts import prompt_text
from sundog.serve.doors.models.reply import Reply
from sundog.serve.doors.models.shared_calls import SharedCalls
from sundog.serve.doors.models.usage_asking import UsageAsking
from sundog.serve.guard import accounts_held, owner_of, principal_of
from sundog.serve.identity import ToldIdentity, told_of
from sundog.serve.serving import Serving
from sundog.serve.wire.embeddings import embed_call, embeddings_answer
from sundog.serve.wire.errors import Refusal, refusal_of
from sundog.serve.wire.messages.requests import messages_to_chat
from sundog.serve.wire.pass_through import forwarded_headers
from sundog.serve.wire.usage import AnswerHead
from sundog.tokens import CHARACTERS_PER_TOKEN, DEFAULT_OUTPUT_TOKENS

FORMS: Mapping[str, WireForm] = {
    "/chat/completions": CHAT,
    "/completions": COMPLETIONS,
    "/embeddings": EMBEDDINGS,
    "/responses": RESPONSES,
    "/messages": MESSAGES,
}
OPERATIONS = {COMPLETIONS.path: "text_completion", EMBEDDINGS.path: "embeddings"}
"""By path of a form, what its calls are called in traces; the others are chats."""
MAX_WAIT_S = 3_600.0
"""The longest time for which a client's own limit is believed."""


class ModelDoor:
    """This class answers for the models that are served."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._models = serving.host.models
        self._engines = serving.host.engines
        self._driver = serving.host.driver
        self._programs = Programs()
        self._paying = Paying(serving.host)
        self._usage_asking = UsageAsking()
        self._shared = SharedCalls(serving.host.shared, self._engines)
        self._kept = KeptResponses()
        self.routes: list[Route] = []
        for path, form in FORMS.items():
            for prefix in ("/v1", "/s/{session}/v1"):
                self.routes.append(Route(prefix + path, _Endpoint(self, form), methods=["POST"]))
        for prefix in ("/v1", "/s/{session}/v1"):
            self.routes += [
                Route(prefix + "/models", self.list, methods=["GET"]),
                Route(prefix + "/models/{model:path}", self.describe, methods=["GET"]),
                Route(prefix + "/messages/count_tokens", self.count_tokens, methods=["POST"]),
                Route(prefix + "/responses/{id}", self.kept_response, methods=["GET"]),
            ]
        self.routes.append(Route("/programs/release", self.release, methods=["POST"]))

    async def list(self, request: Request) -> Response:
        principal = principal_of(request.scope)
        names = {name for name, _ in self._models.names() if principal is None or principal.allows_model(name)}
        return json_response({"object": "list", "data": [_model(name) for name in sorted(names)]})

    async def describe(self, request: Request) -> Response:
        self._pool(request.path_params["model"], principal_of(request.scope))
        return json_response(_model(request.path_params["model"]))

    async def release(self, request: Request) -> Response:
        """End a program whose client will ask no more."""
        body = parse_json_body(await read_body(request))
        session = body.get("program_id") if isinstance(body, dict) else None
        if not isinstance(session, str) or not session:
            raise Refusal(400, "program_id: it is the id of the program that ends", param="program_id", is_final=True)
        await self._end_program(owner_of(request.scope), session)
        return json_response({"program_id": session, "released": True})

    async def count_tokens(self, request: Request) -> Response:
        """Return how many tokens a prompt of `/v1/messages` has, as far as this server knows."""
        chat = messages_to_chat(parse_json_body(await read_body(request)), needs_max_tokens=False)
        self._pool(chat["model"], principal_of(request.scope))
        return json_response({"input_tokens": _num_tokens(prompt_text(chat))})

    async def kept_response(self, request: Request) -> Response:
        """Return an answer of `/v1/responses` that is still kept."""
        return json_response(self._kept.answer(owner_of(request.scope), request.path_params["id"]))

    async def answer(self, form: WireForm, asked: AskedHead, raw: bytes, reply: Reply) -> None:
        """Answer a request in one form, also where the answer is an error."""
        exchange: Exchange | None = None
        try:
            body = parse_json_body(raw)
            earlier = self._kept.earlier(asked.owner, body) if form is RESPONSES else ()
            chat = form.to_chat(body, earlier)
            exchange = self._exchange(form, raw, body, chat, asked, reply)
            await self._run(exchange, asked)
            if form is RESPONSES and asked.tier != "batch":
                # The lines of a batch would push out what a client is about to go on from.
                self._kept.keep(asked.owner, body, exchange, earlier)
        except (Refusal, SundogError) as error:
            refusal = _refused(error)
            if exchange is None:
                await reply.whole(form.status(refusal), to_json(form.error(refusal)), {**JSON, **refusal.headers()})
            else:
                await exchange.failed(refusal)

    async def _run(self, exchange: Exchange, asked: AskedHead) -> None:
        """Have the core run it; Refusal, or another SundogError, where it gets an error."""
        chat = exchange.chat
        said = chat if exchange.form.is_plain else {**exchange.body, **chat}
        told = told_of(asked.headers, said, asked.path_session)
        if asked.principal is not None:
            # The key tells who is charged, whatever the request says of itself.
            told = replace(told, tenant=asked.principal.tenant, weight=asked.principal.weight)
        if asked.tier is not None:
            told = replace(told, tier=asked.tier)
        pool = self._pool(chat.get("model"), asked.principal)
        asked.notes.model = str(chat["model"])
        is_alone = asked.tier == "batch" and not told.session
        programs = self._programs
        place = programs.alone() if is_alone else programs.place(told, asked.owner, chat, exchange.answer_id)
        # Whichever way a request leaves without an answer, its payers are let go, and its place is free again.
        is_answered = False
        try:
            within = nullcontext() if told.timeout_s is None else _within(told.timeout_s)
            async with within, self._paying.payers(asked, told, place, exchange.answer_id) as held:
                make = partial(self._made, pool=pool, told=told, place=place, payers=held.payers)
                hold = partial(self._held, pool=pool, payers=held.payers)
                await self._shared.answer(exchange, pool, told.tier, held, make, hold)
            is_answered = not exchange.is_refused
        finally:
            if not is_answered:
                programs.failed(place)
        # Without an answer it may be sent again, and is still bound by the budget of its program.
        if is_answered and told.is_final and told.session:
            await self._end_program(asked.owner, told.session)

    async def _held(self, exchange: Exchange, pool: str, payers: Payers) -> Payment:
        """Return a payment for the call of an exchange, with its money held."""
        engine = self._models.engine(pool)
        _, request = self._run_of(exchange, pool, engine)
        payment = self._paying.payment(payers, pool, engine, exchange.chat, request)
        with self._models.waiting():
            await payment.hold()
        return payment

    async def _made(
        self,
        exchange: Exchange,
        payment: Payment | None,
        pool: str,
        told: ToldIdentity,
        place: ProgramPlace,
        payers: Payers,
    ) -> Usage | None:
        """Have the core run the call, once it is paid. `payment`: the one that is held, None where none is so far."""
        try:
            engine = self._models.engine(pool)
            run, request = self._run_of(exchange, pool, engine)
            if payment is None and payers:
                payment = self._paying.payment(payers, pool, engine, exchange.chat, request)
            call = self._call(exchange, pool, engine, told, place)
            with self._traced(exchange, place):
                usage: Usage | None = await self._models.run(call, run, payment)
        finally:
            if payment is not None:
                payment.let_go()
        exchange.notes.took(usage)
        exchange.notes.is_reused = False
        return usage

    def _traced(self, exchange: Exchange, place: ProgramPlace) -> AbstractContextManager[None]:
        """Return what traces the call that is made inside."""
        tracing = self._serving.host.tracing
        if tracing is None:
            return nullcontext()
        operation = OPERATIONS.get(exchange.form.path, "chat")
        return tracing.model_call(operation, exchange.headers, place.program, exchange.notes.is_of_trace)

    def _exchange(
        self, form: WireForm, raw: bytes, body: Any, chat: Mapping[str, Any], asked: AskedHead, reply: Reply
    ) -> Exchange:
        answer_id = f"{form.prefix}{os.urandom(16).hex()}"
        return Exchange(
            form=form,
            raw=raw,
            body=body,
            chat=chat,
            is_streamed=bool(chat.get("stream")),
            answer_id=answer_id,
            created=int(time.time()),
            reply=reply,
            headers=forwarded_headers(asked.all_headers),
            on_first=partial(self._models.first_token, answer_id),
            notes=asked.notes,
            usage_asking=self._usage_asking,
        )

    def _run_of(self, exchange: Exchange, pool: str, engine: Engine) -> tuple[Any, GenerateRequest | None]:
        """Return what runs an attempt of the exchange, and the request that an engine of this process gets; Refusal for
        a body that the engine cannot be asked with."""
        if is_forwarding(engine):
            return exchange.forwarded, None
        if exchange.form is EMBEDDINGS:
            return partial(self._embed, exchange), None
        kind, options = opened(self._engines.block(pool))
        head = AnswerHead(exchange.answer_id, exchange.created, str(exchange.chat.get("model")))
        is_chat = exchange.form is not COMPLETIONS
        own = own_call(exchange.own_chat, head, abilities_of(kind, options), is_chat=is_chat)
        return partial(self._generate, exchange, own), own.request

    async def _generate(
        self, exchange: Exchange, own: OwnCall, engine: Engine, submit: Submit
    ) -> Success[Usage | None]:
        own.request.needs_first_token = exchange.is_streamed or submit.needs_first_token
        return await exchange.generated(engine, own.request, submit, own.told)

    async def _embed(self, exchange: Exchange, engine: Engine, submit: Submit) -> Success[Usage | None]:
        if not isinstance(engine, EmbeddingEngine):
            raise Refusal(400, f"the model '{exchange.chat['model']}' gives no vectors", param="model", is_final=True)
        call = embed_call(exchange.chat, exchange.answer_id)
        found = await engine.embed(call.request)
        await exchange.told_whole(embeddings_answer(call, found, str(exchange.chat["model"])))
        return Success(found.usage, found.usage)

    def _call(
        self, exchange: Exchange, pool: str, engine: Engine, told: ToldIdentity, place: ProgramPlace
    ) -> ModelCall:
        limit = exchange.chat.get("max_completion_tokens") or exchange.chat.get("max_tokens")
        # Clients allow far longer answers than come; room is kept for what is likely.
        likely = told.num_expected_output_tokens or DEFAULT_OUTPUT_TOKENS
        num_output_tokens = min(limit, likely) if isinstance(limit, int) else likely
        text = prompt_text(exchange.chat)
        exchange.num_prompt_tokens = _num_tokens(text)
        has_cache = engine.capabilities().has_prefix_cache
        return ModelCall(
            exchange.answer_id,
            pool,
            exchange.num_prompt_tokens,
            num_output_tokens,
            prefix_key_of(text) if has_cache else (),
            workflow_id=place.program,
            workflow_order=place.order,
            num_turns=place.num_turns,
            facts=CallFacts(
                is_last_turn=told.is_final or not place.program,
                tenant=told.tenant,
                weight=told.weight,
                priority=told.priority,
                deadline_s=told.deadline_s,
                tier=told.tier,
                root_program=place.root,
            ),
        )

    def _pool(self, model: Any, principal: Principal | None) -> str:
        """Return the pool of the engine that a client means; Refusal where there is none, or its key may not use it."""
        if not isinstance(model, str):
            raise Refusal(400, "model: it is the name of a model", param="model", is_final=True)
        if principal is not None and not principal.allows_model(model):
            what = f"this key may not use the model '{model}'"
            raise Refusal(403, what, param="model", code="model_not_allowed", is_final=True)
        try:
            return self._models.pool_of(model)
        except UnknownModel as error:
            what = f"{error.what}; {error.hint}"
            raise Refusal(404, what, param="model", code="model_not_found", is_final=True) from error

    async def _end_program(self, owner: str, session: str) -> None:
        name = self._programs.end(owner, session)
        self._driver.tell(WorkflowEnded(self._driver.now_s(), name))
        await self._serving.host.budgets.end(name)


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    """The time that a client gives; Refusal once it has passed."""
    try:
        async with asyncio.timeout(min(seconds, MAX_WAIT_S)) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise Refusal(504, "the time that the client gave has passed", code="timeout") from error


def _refused(error: Refusal | SundogError) -> Refusal:
    if isinstance(error, Overloaded):
        return Refusal(429, error.what, code="overloaded", retry_after_s=error.retry_after_s)
    if isinstance(error, AccountsHeld):
        return accounts_held(error)
    return refusal_of(error)


class _Endpoint:
    """One form's endpoint, as an ASGI application: bytes go from the engine to the socket without a queue."""

    def __init__(self, door: ModelDoor, form: WireForm) -> None:
        self._door = door
        self._form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = AskedHead(scope)
        reply = Reply(send, {"x-request-id": asked.headers.get("x-request-id") or os.urandom(16).hex()})
        try:
            raw = await received_body(receive, asked.headers.get("content-length", ""), held_body(scope))
        except Refusal as refusal:
            body = to_json(self._form.error(refusal))
            await reply.whole(self._form.status(refusal), body, {**JSON, **refusal.headers()})
            return
        await _while_somebody_reads(receive, reply, self._door.answer(self._form, asked, raw, reply))


async def _while_somebody_reads(receive: Receive, reply: Reply, work: Coroutine[Any, Any, None]) -> None:
    """Do some work in this task, and leave it where the client has left before the answer has ended: then nobody reads
    it any more."""
    task, has_left = asyncio.current_task(), False
    assert task is not None, "a server runs each request in a task"

    async def watch() -> None:
        nonlocal has_left
        while (await receive())["type"] != "http.disconnect":
            """Nothing else comes behind a body."""
        if not (reply.has_ended or reply.is_done):
            has_left = True
            task.cancel()

    watching = asyncio.ensure_future(watch())
    try:
        await work
    except asyncio.CancelledError:
        if not has_left or task.uncancel():
            raise
    finally:
        watching.cancel()


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "sundog"}


def _num_tokens(text: str) -> int:
    return len(text) // CHARACTERS_PER_TOKEN + 1
