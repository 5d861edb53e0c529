"""The live page: a status as plain HTML, which a small script keeps fresh, and which needs nothing from elsewhere.

Owns the page's parts and its headers. Texts of flows, errors and clients are escaped by jinja2, and no script of theirs
would run.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from markupsafe import Markup

from sundog.host.waits import span
from sundog.present.figures import dollars, seconds
from sundog.present.html import HEIGHTS, page_template
from sundog.present.live.plan_picture import DrawnPlan, PlanPicture, StepFigures, drawn
from sundog.serve.seeing.status import FlowStatus, Status

PACKAGE = "sundog.serve.seeing"
SAFE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""The headers of the page and its parts: nothing is loaded from elsewhere, and nothing inside the page is run."""
STATES = {"done": "done", "failed": "failed", "dropped": "filtered out", "not_run": "not run"}
Pictures = Mapping[str, PlanPicture]
"""By flow."""


def whole_page(content: str, root: str, address: str, *, title: str, is_locked: bool, has_doors: bool) -> str:
    """Return the whole page around its figures. `root`: the path at which the application is mounted; `is_locked`:
    the server has keys, and nobody has sent one; `has_doors`: there are more than this page."""
    return page_template("live.html", PACKAGE).render(
        content=Markup(content),
        root=root,
        address=address,
        title="sundog" if is_locked else title,
        is_locked=is_locked,
        has_doors=has_doors,
    )


def live_figures(status: Status, pictures: Pictures) -> str:
    """Return the figures of the page, which change."""
    return page_template("live_main.html", PACKAGE).render(
        status=status,
        said=said_of(status),
        drawings={flow.name: _drawn(flow, pictures[flow.name]) for flow in status.flows if _has(pictures, flow)},
        heights=HEIGHTS,
        states=STATES,
        uptime_words="up for" if status.run is None else "worked on for",
        age=span,
        duration=_duration,
        dollars=dollars,
    )


def said_of(status: Status) -> str:
    """Return the sentence that those hear who do not see the page."""
    ended = f"{status.num_rows_ended:,} rows have ended, {status.num_failures:,} failures."
    if status.run is not None:
        return f"The run is {status.state}: {ended}"
    calls = 0 if status.gateway is None else status.gateway.num_in_flight
    return f"{status.num_rows_in_flight:,} rows and {calls:,} model calls in flight, {ended}"


@cache
def asset(name: str) -> str:
    """Return the style or the script of the page."""
    if name.endswith(".css"):
        return page_template(name, PACKAGE).render()
    return files(PACKAGE).joinpath(name).read_text(encoding="utf-8")


def _has(pictures: Pictures, flow: FlowStatus) -> bool:
    return flow.name in pictures and pictures[flow.name].is_drawn


def _drawn(flow: FlowStatus, picture: PlanPicture) -> DrawnPlan:
    tables = {table: _row_figures(flow.tables.get(table, {})) for table in picture.tables}
    return drawn(picture, _step_figures(flow), tables)


def _row_figures(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    return [(f"rows {STATES[state]}", f"{counts.get(state, 0):,}") for state in ("done", "failed", "dropped")]


def _step_figures(flow: FlowStatus) -> StepFigures:
    """Return the figures of each card: what happens now where that is known, and what has been done."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for step in flow.steps:
        now = (("running", step.num_running), ("waiting", step.num_waiting))
        done = (("executed", step.num_executed), ("not made", step.num_reused))
        found[step.name] = tuple((label, f"{number:,}") for label, number in (*now, *done) if number is not None)
    return found


def _duration(value: float) -> str:
    return f"{value * 1000:,.0f} ms" if value < 1 else f"{seconds(value)} s"
