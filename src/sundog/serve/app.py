"""The application: every door of one live host, and how a failure leaves it.

Owns which path leads to which door. Never opens the host; serve.serving does.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sundog.access.api_keys import APIKeys
from sundog.errors import SundogError
from sundog.serve.batches.batches import open_batches
from sundog.serve.batches.quota import MAX_KEPT_BYTES
from sundog.serve.batches.shelf import FileShelf
from sundog.serve.bodies import json_response
from sundog.serve.doors.batches import BatchDoor
from sundog.serve.doors.descriptions import DescriptionDoor
from sundog.serve.doors.files import FileDoor
from sundog.serve.doors.flows import FlowDoor
from sundog.serve.doors.health import HealthDoor
from sundog.serve.doors.live_page import LivePageDoor
from sundog.serve.doors.models.door import ModelDoor
from sundog.serve.doors.seeing import SeeingDoor
from sundog.serve.guard import KeyGuard
from sundog.serve.seeing.request_log import RequestLog, path_template
from sundog.serve.seeing.watching import WatchedRun
from sundog.serve.serving import Serving
from sundog.serve.sites import AnsweredSites
from sundog.serve.wire.errors import Refusal, error_at, refusal_of
from sundog.store.store import Store

log = logging.getLogger("sundog.serve")


@asynccontextmanager
async def open_app(
    serving: Serving,
    *,
    has_batches: bool = True,
    allowed_hosts: Iterable[str] = (),
    max_kept_bytes: int = MAX_KEPT_BYTES,
) -> AsyncIterator[Starlette]:
    """Yield the ASGI application of what is served. `has_batches`: it takes batches, and works on those of the state
    folder until the context ends; `allowed_hosts`: the names that it answers to without keys, beside this machine's;
    `max_kept_bytes`: those of the files of one key."""
    models = ModelDoor(serving)
    doors = (models, FlowDoor(serving), DescriptionDoor(serving), HealthDoor(serving), SeeingDoor(serving))
    routes = [route for door in doors for route in door.routes]
    async with AsyncExitStack() as stack:
        if has_batches:
            shelf = FileShelf(serving.config.state_dir)
            batches = await stack.enter_async_context(open_batches(serving, models, shelf))
            routes += (
                FileDoor(serving, shelf, batches, max_kept_bytes).routes + BatchDoor(batches, serving.loaded).routes
            )
        yield _application(routes, serving.host.store, allowed_hosts)


def make_watch_app(run: WatchedRun, store: Store, allowed_hosts: Iterable[str] = ()) -> Starlette:
    """Return the ASGI application that shows a run. `store`: of the state folder, for its keys; `allowed_hosts`: as
    those of `open_app`."""
    page = LivePageDoor(run.look, f"Run {run.run_id}", has_doors=False)
    return _application([*page.routes, Route("/health", _is_there, methods=["GET"])], store, allowed_hosts)


def _application(routes: Sequence[Route], store: Store, allowed_hosts: Iterable[str]) -> Starlette:
    handlers = {Refusal: _refused, HTTPException: _no_route, SundogError: _failed, Exception: _failed}
    guard = Middleware(KeyGuard, keys=APIKeys(store), sites=AnsweredSites(allowed_hosts))
    return Starlette(routes=routes, exception_handlers=handlers, middleware=[Middleware(RequestLog), guard])


async def _is_there(request: Request) -> Response:
    return json_response({"status": "ok"})


async def _refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return _error(request, refusal)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what, code = f"there is nothing at {request.method} {request.url.path}", "not_found"
    if error.status_code == 405:
        what, code = f"{request.url.path} does not take {request.method}", "method_not_allowed"
    return _error(request, Refusal(error.status_code, what, code=code, is_final=True), error.headers or {})


async def _failed(request: Request, error: Exception) -> Response:
    if not isinstance(error, SundogError):
        log.error("%s %s failed", request.method, path_template(request.scope), exc_info=error)
    return _error(request, refusal_of(error))


def _error(request: Request, refusal: Refusal, headers: Mapping[str, str] = {}) -> Response:
    status, body = error_at(request.url.path, refusal)
    return json_response(body, status, {**headers, **refusal.headers()})
