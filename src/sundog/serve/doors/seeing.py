"""The doors for whoever watches: the metrics of the server, and its status.

Owns which form goes out. Never counts anything.
"""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sundog.serve.bodies import json_response
from sundog.serve.guard import principal_of
from sundog.serve.metrics import metrics_of
from sundog.serve.seeing.status import Status
from sundog.serve.seeing.status_of_host import ServedPlans, status_of_host
from sundog.serve.serving import Serving

NOT_KEPT = {"cache-control": "no-store"}
"""What is shown now is of no use a second later."""


class SeeingDoor:
    """This class shows what happens."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self.routes = [
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/v1/status", self.status, methods=["GET"]),
        ]

    async def metrics(self, request: Request) -> Response:
        return Response(metrics_of(self._serving.host), headers={"content-type": CONTENT_TYPE_LATEST})

    async def status(self, request: Request) -> Response:
        """Return what happens now, as far as the one who asks may see it."""
        return json_response(self._status(request).to_dict(), headers=NOT_KEPT)

    def _status(self, request: Request) -> Status:
        serving = self._serving
        plans = {name: flow.served.plan for name, flow in serving.loaded.items()}
        served = ServedPlans(plans, serving.reload_errors, serving.is_stopping, version("sundog"))
        return status_of_host(serving.host, served, principal_of(request.scope))
