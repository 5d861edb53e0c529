"""The guard in front of all doors: where the state folder has keys, nobody comes in without one; where it has none, no
page of another site does.

Owns who asks, and how many requests of a key are let in. Which models and flows a key may use, the doors ask it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from typing import cast

from starlette.types import ASGIApp, Receive, Scope, Send

from sundog.access.api_keys import APIKeys
from sundog.access.key_ring import KeyRing
from sundog.access.principal import Principal
from sundog.ledger.ledger import SpendingScope
from sundog.ledger.request_limits import RequestGate
from sundog.live.accounts import AccountsHeld
from sundog.serve.bodies import json_response
from sundog.serve.sites import AnsweredSites
from sundog.serve.wire.errors import Refusal, error_at

OPEN_PATHS = frozenset({"/health", "/ready"})
"""Whoever watches the server has no key."""
SHELL_PATHS = frozenset({"/", "/live.css", "/live.js"})
"""The live page asks for a key itself, which browsers do not send; nothing in it tells anything before."""
LOOK_S = 1.0
"""A server without keys asks for one so long after the first was made, at most."""
_PRINCIPAL = "sundog.principal"
_IS_STRANGER = "sundog.is_stranger"
_ENDING_PATHS = ("/cancel", "/release", "/count_tokens")
"""These end something, or only count: whoever has reached a limit may do so all the same."""


def principal_of(scope: Scope) -> Principal | None:
    """Return who asks; None where the server has no keys."""
    return cast(Principal | None, scope.get(_PRINCIPAL))


def owner_of(scope: Scope) -> str:
    """Return the id of the key that a request came with: what it begins belongs to that. It is "" without keys."""
    principal = principal_of(scope)
    return "" if principal is None else principal.key_id


def is_stranger(scope: Scope) -> bool:
    """Return whether a request came without a valid key to a server that has some: it is at a door that is open to
    all."""
    return bool(scope.get(_IS_STRANGER))


def scope_of(principal: Principal | None) -> Scope:
    """Return the scope of a request that this server makes for somebody, without a socket."""
    return {"type": "http", "headers": [], _PRINCIPAL: principal}


def accounts_held(error: AccountsHeld) -> Refusal:
    """Return what a client hears where another process counts what its key spends."""
    return Refusal(503, f"{error.what}; {error.hint}", code="accounts_held", is_final=True)


class KeyGuard:
    """This class lets those through to an ASGI application who have a key. `sites`: those that are answered while there
    is none."""

    def __init__(self, app: ASGIApp, keys: APIKeys, sites: AnsweredSites) -> None:
        self._app = app
        self._sites = sites
        self._keys = keys
        self._ring = KeyRing(keys)
        self._gate = RequestGate()
        self._has_keys = False
        self._looked_at_s = -math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif not self._needs_keys(time.monotonic()):
            why_not = self._sites.why_not(scope["headers"])
            if why_not is None:
                await self._app(scope, receive, send)
            else:
                await _refuse(why_not, scope, receive, send)
        elif _path(scope) in OPEN_PATHS or (_path(scope) in SHELL_PATHS and scope["method"] in ("GET", "HEAD")):
            known = self._known(scope)
            scope[_IS_STRANGER] = known is None
            if known is not None:
                scope[_PRINCIPAL] = known
            await self._app(scope, receive, send)
        else:
            try:
                principal = scope[_PRINCIPAL] = self._principal(scope)
                key = self._enter(scope, principal)
            except Refusal as refusal:
                await _refuse(refusal, scope, receive, send)
                return
            try:
                await self._app(scope, receive, send)
            finally:
                if key is not None:
                    self._gate.leave(key, time.monotonic())

    def _needs_keys(self, now_s: float) -> bool:
        """Return whether a key was ever made: it may have been revoked since, which opens nothing."""
        if not self._has_keys and now_s - self._looked_at_s >= LOOK_S:
            self._looked_at_s = now_s
            self._has_keys = self._keys.is_any()
        return self._has_keys

    def _principal(self, scope: Scope) -> Principal:
        """Return whose key came with a request; Refusal without a valid one. No answer tells which of them it was."""
        principal = self._known(scope)
        if principal is not None:
            return principal
        what = "the key of this request is not valid: it is another one, has expired or was revoked"
        if not any(_sent_keys(scope["headers"])):
            what = "this server asks for a key: send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`"
        raise Refusal(401, what, code="invalid_api_key", is_final=True)

    def _known(self, scope: Scope) -> Principal | None:
        """Return whose key came with a request, None without a valid one."""
        now_s = time.time()
        found = (self._ring.principal(key, now_s) for key in _sent_keys(scope["headers"]))
        return next((principal for principal in found if principal is not None), None)

    def _enter(self, scope: Scope, principal: Principal) -> SpendingScope | None:
        """Count a request that begins something, and return with what; Refusal where its key has reached a limit."""
        if scope["method"] != "POST" or _path(scope).endswith(_ENDING_PATHS):
            return None
        key = SpendingScope("key", principal.key_id)
        refused = self._gate.enter(key, principal.terms.requests, time.monotonic())
        if refused is not None:
            raise Refusal(429, str(refused), code="rate_limit_exceeded", retry_after_s=refused.retry_after_s)
        return key


def _sent_keys(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
    for name, value in headers:
        text = value.decode("latin-1").strip()
        if name == b"x-api-key":
            yield text
        elif name == b"authorization" and text[:7].lower() == "bearer ":
            yield text[7:].strip()


def _path(scope: Scope) -> str:
    """Return the path within this application, which may be mounted in another one."""
    path, root = cast(str, scope["path"]), cast(str, scope.get("root_path", ""))
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    status, body = error_at(_path(scope), refusal)
    headers = refusal.headers()
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    await json_response(body, status, headers)(scope, receive, send)
