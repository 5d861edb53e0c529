"""The log of requests: one line for each, when its answer has ended.

Owns what a line tells: names of the server's own, numbers, and an id. Never a header, a body, or a name that only a
client uses. Where the level leaves these lines out, requests pass as if this were not here.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sundog.engines.base import Usage
from sundog.serve.guard import principal_of

log = logging.getLogger("sundog.requests")
CLIENT_HAS_LEFT = 499
"""In the place of a status: nobody was there to be answered."""
_NOTES = "sundog.notes"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")


@dataclass(slots=True)
class RequestNotes:
    """The things that doors note of one request; None for what it has not."""

    #: The client's own where it is a UUID, which says nothing else.
    request_id: str = ""
    tenant: str | None = None
    #: As the server knows it.
    model: str | None = None
    flow: str | None = None
    #: The id of the run that it began or looked at.
    run: str | None = None
    num_prompt_tokens: int | None = None
    num_cached_tokens: int | None = None
    num_output_tokens: int | None = None
    #: Equal calls have their answer in common, and it is one that was there.
    is_reused: bool | None = None
    trace_id: str | None = None

    def is_of_trace(self, trace_id: str) -> None:
        """Note the trace of a call."""
        self.trace_id = trace_id

    def took(self, usage: Usage | None) -> None:
        """Note the tokens of a call."""
        if usage is not None:
            self.num_prompt_tokens = usage.num_prompt_tokens
            self.num_cached_tokens = usage.num_cached_tokens
            self.num_output_tokens = usage.num_output_tokens


def notes_of(scope: Scope) -> RequestNotes:
    """Return the notes of a request; nobody reads those of one that is not logged."""
    return cast(RequestNotes, scope.get(_NOTES)) or RequestNotes()


@dataclass(slots=True)
class _Answer:
    status: int = CLIENT_HAS_LEFT
    began_s: float = field(default_factory=time.perf_counter)


class RequestLog:
    """This class logs the requests of an ASGI application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not log.isEnabledFor(logging.INFO):
            await self._app(scope, receive, send)
            return
        answer, notes = _Answer(), RequestNotes(_request_id(scope))
        scope[_NOTES] = notes

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception as error:
            # The one around this application answers in its place, where nothing was sent.
            if answer.status == CLIENT_HAS_LEFT and not isinstance(error, ClientDisconnect):
                answer.status = 500
            raise
        finally:
            _log(scope, answer, notes)


def path_template(scope: Scope) -> str:
    """Return the path of a request as its route is written: what clients put there may be anything."""
    if "endpoint" not in scope:
        return "unmatched"
    path = cast(str, scope["path"]).removeprefix(scope.get("root_path", ""))
    routes = (one for one in scope["app"].routes if isinstance(one, Route) and one.endpoint == scope["endpoint"])
    return next((one.path_format for one in routes if one.path_regex.match(path)), "unmatched")


def _log(scope: Scope, answer: _Answer, notes: RequestNotes) -> None:
    principal = principal_of(scope)
    notes.tenant = None if principal is None else principal.tenant
    told = {name: value for name, value in asdict(notes).items() if value is not None}
    duration_ms = round((time.perf_counter() - answer.began_s) * 1000, 1)
    fields: dict[str, Any] = {
        "method": scope["method"],
        "path": path_template(scope),
        "status": answer.status,
        "duration_ms": duration_ms,
        **told,
    }
    log.info("%s %s %s", fields["method"], fields["path"], answer.status, extra={"fields": fields})


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _UUID.fullmatch(value.decode("latin-1")):
            return cast(str, value.decode("latin-1"))
    return uuid.uuid4().hex
