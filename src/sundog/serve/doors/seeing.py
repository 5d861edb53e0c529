"""The doors for whoever watches: the metrics of the server, its status, and the live page.

Owns which form goes out. Never counts anything.
"""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sundog.ir.physical import PhysicalPlan
from sundog.present.live.plan_picture import PlanPicture, plan_picture
from sundog.serve.doors.live_page import LivePageDoor
from sundog.serve.guard import principal_of
from sundog.serve.metrics import metrics_of
from sundog.serve.seeing.live_page import Pictures
from sundog.serve.seeing.status import Status
from sundog.serve.seeing.status_of_host import ServedPlans, status_of_host
from sundog.serve.serving import Serving


class SeeingDoor:
    """This class shows what happens."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        #: By flow, the picture of the plan that is served.
        self._pictures: dict[str, tuple[PhysicalPlan, PlanPicture]] = {}
        page = LivePageDoor(self._look, "sundog", has_doors=True)
        self.routes = [Route("/metrics", self.metrics, methods=["GET"]), *page.routes]

    async def metrics(self, request: Request) -> Response:
        figures = metrics_of(self._serving.host, self._serving.batch_figures)
        return Response(figures, headers={"content-type": CONTENT_TYPE_LATEST})

    async def _look(self, request: Request) -> tuple[Status, Pictures]:
        serving = self._serving
        plans = {name: flow.served.plan for name, flow in serving.loaded.items()}
        batches, is_stopping = serving.batch_figures, serving.is_stopping
        principal = principal_of(request.scope)
        served = ServedPlans(plans, serving.reload_errors_for(principal), batches, is_stopping, version("sundog"))
        status = status_of_host(serving.host, served, principal)
        return status, {name: self._picture(name, plan) for name, plan in plans.items()}

    def _picture(self, flow: str, plan: PhysicalPlan) -> PlanPicture:
        known = self._pictures.get(flow)
        if known is None or known[0] is not plan:
            known = self._pictures[flow] = plan, plan_picture(plan)
        return known[1]
