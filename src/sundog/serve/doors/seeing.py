"""The doors for whoever watches: the metrics of the server.

Owns which form goes out. Never counts anything.
"""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sundog.serve.metrics import metrics_of
from sundog.serve.serving import Serving


class SeeingDoor:
    """This class shows what happens."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self.routes = [Route("/metrics", self.metrics, methods=["GET"])]

    async def metrics(self, request: Request) -> Response:
        return Response(metrics_of(self._serving.host), headers={"content-type": CONTENT_TYPE_LATEST})
