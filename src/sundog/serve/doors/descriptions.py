"""The doors that tell what is served: one for programs, one for people.

Owns where they are. Never runs anything.
"""

from __future__ import annotations

from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sundog.serve.bodies import json_response
from sundog.serve.guard import principal_of
from sundog.serve.serving import Serving
from sundog.serve.wire.descriptions.flow_page import flow_page
from sundog.serve.wire.descriptions.openapi import FlowForm, openapi_document

NO_SCRIPTS = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}


class DescriptionDoor:
    """This class describes the flows that are served now."""

    def __init__(self, serving: Serving) -> None:
        self._loaded = serving.loaded
        self.routes = [
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/docs", self.page, methods=["GET"]),
        ]

    async def openapi(self, request: Request) -> Response:
        has_keys = principal_of(request.scope) is not None
        return json_response(openapi_document(self._forms(request), version("sundog"), has_keys=has_keys))

    async def page(self, request: Request) -> Response:
        address = str(request.base_url).rstrip("/")
        return HTMLResponse(flow_page(self._forms(request), address), headers=NO_SCRIPTS)

    def _forms(self, request: Request) -> list[FlowForm]:
        """Return the flows that the one who asks may use."""
        principal = principal_of(request.scope)
        return [
            FlowForm(flow.name, flow.columns, flow.outputs)
            for flow in self._loaded.values()
            if principal is None or principal.allows_flow(flow.name)
        ]
