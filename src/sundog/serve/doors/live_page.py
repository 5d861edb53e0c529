"""The door of the live page: the page, its figures as they are now, and its style and script.

Owns what goes out under which address. Whose status it is, the one who makes the door tells.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sundog.serve.bodies import json_response
from sundog.serve.guard import is_stranger
from sundog.serve.seeing.live_page import SAFE_HEADERS, Pictures, asset, live_figures, whole_page
from sundog.serve.seeing.status import Status

Look = Callable[[Request], Awaitable[tuple[Status, Pictures]]]
"""Gives the status, as far as the one who asks may see it, and pictures of its flows."""


class LivePageDoor:
    """This class shows a status to people and programs. `title`: of the page; `has_doors`: there are more than it."""

    def __init__(self, look: Look, title: str, *, has_doors: bool) -> None:
        self._look = look
        self._title = title
        self._has_doors = has_doors
        self.routes = [
            Route("/", self.page, methods=["GET"]),
            Route("/live", self.figures, methods=["GET"]),
            Route("/live.css", self.style, methods=["GET"]),
            Route("/live.js", self.script, methods=["GET"]),
            Route("/v1/status", self.status, methods=["GET"]),
        ]

    async def page(self, request: Request) -> Response:
        """Return the page; where there are keys and none was sent, with a form that asks for one and no figures."""
        locked = is_stranger(request.scope)
        content = "" if locked else live_figures(*await self._look(request))
        root, address = request.scope.get("root_path", ""), str(request.base_url).rstrip("/")
        page = whole_page(content, root, address, title=self._title, is_locked=locked, has_doors=self._has_doors)
        return HTMLResponse(page, headers=SAFE_HEADERS)

    async def figures(self, request: Request) -> Response:
        """Return what changes of the page."""
        return HTMLResponse(live_figures(*await self._look(request)), headers=SAFE_HEADERS)

    async def style(self, request: Request) -> Response:
        return Response(asset("live.css"), media_type="text/css", headers=SAFE_HEADERS)

    async def script(self, request: Request) -> Response:
        return Response(asset("live.js"), media_type="text/javascript", headers=SAFE_HEADERS)

    async def status(self, request: Request) -> Response:
        """Return the status as JSON."""
        status, _ = await self._look(request)
        return json_response(status.to_dict(), headers={"cache-control": "no-store"})
