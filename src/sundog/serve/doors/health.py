"""The doors of health and readiness, for whoever watches the server.

Owns what counts as ready. Never mends anything.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sundog.serve.bodies import json_response
from sundog.serve.guard import is_stranger, principal_of
from sundog.serve.serving import Serving


class HealthDoor:
    """This class tells whether the server is there, and whether it takes work."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self.routes = [Route("/health", self.health, methods=["GET"]), Route("/ready", self.ready, methods=["GET"])]

    async def health(self, request: Request) -> Response:
        return json_response({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Return 200 while work is taken, and 503 while the server comes to its end. Names of flows and files are for
        those who have a key that may use them, where there are keys."""
        serving = self._serving
        state: dict[str, Any] = {
            "status": "stopping" if serving.is_stopping else "ready",
            "num_reload_errors": len(serving.reload_errors),
        }
        if not is_stranger(request.scope):
            who = principal_of(request.scope)
            flows = [flow for flow in serving.host.flows.values() if who is None or who.allows_flow(flow.name)]
            state["flows"] = {flow.name: {"rows_in_flight": flow.num_rows_in_flight} for flow in flows}
            state["reload_errors"] = serving.reload_errors_for(who)
        return json_response(state, 503 if serving.is_stopping else 200)
