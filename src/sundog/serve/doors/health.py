"""The doors of health and readiness, for whoever watches the server.

Owns what counts as ready. Never mends anything.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sundog.serve.bodies import json_response
from sundog.serve.serving import Serving


class HealthDoor:
    """This class tells whether the server is there, and whether it takes work."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self.routes = [Route("/health", self.health, methods=["GET"]), Route("/ready", self.ready, methods=["GET"])]

    async def health(self, request: Request) -> Response:
        return json_response({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Return 200 while work is taken, and 503 while the server comes to its end."""
        serving = self._serving
        state = {
            "status": "stopping" if serving.is_stopping else "ready",
            "flows": {name: {"rows_in_flight": flow.num_rows_in_flight} for name, flow in serving.host.flows.items()},
            "reload_errors": serving.reload_errors,
        }
        return json_response(state, 503 if serving.is_stopping else 200)
