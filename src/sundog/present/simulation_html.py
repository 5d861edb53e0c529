"""A simulation as one HTML page that needs nothing else: the variants side by side, and each pool over time.

Owns the page's charts. The page is simulation.html; jinja2 escapes all that users wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sundog.present.figures import count, dollars, seconds, show_estimate
from sundog.present.html import page_template
from sundog.present.simulation import PoolCourse, SimulationDocument, VariantDocument
from sundog.present.simulation_text import consumption_lines

CHART_WIDTH, CHART_HEIGHT = 720, 90


@dataclass(frozen=True, slots=True)
class Chart:
    """One pool over time, as points of SVG lines in a box of CHART_WIDTH by CHART_HEIGHT."""

    pool: str
    running: str
    waiting: str
    #: Empty where its cache has no bound.
    kv_usage: str
    #: Empty where there are always as many.
    replicas: str
    most_calls: int
    most_replicas: int


def simulation_html(document: SimulationDocument) -> str:
    """Return the page as text, with no resource from elsewhere."""
    longest_s = max(one.makespan_s.high for one in document.variants) or 1.0
    return page_template("simulation.html").render(
        document=document,
        longest_s=longest_s,
        charts={number: charts_of(one) for number, one in enumerate(document.variants)},
        width=CHART_WIDTH,
        height=CHART_HEIGHT,
        show=show_estimate,
        count=count,
        seconds=seconds,
        dollars=dollars,
        consumption=consumption_lines,
    )


def charts_of(variant: VariantDocument) -> list[Chart]:
    """Return a chart of each pool."""
    return [_chart(variant.times_s, course) for course in variant.course]


def _chart(times_s: Sequence[float], course: PoolCourse) -> Chart:
    most = max([1, *course.num_running, *course.num_waiting])
    usages = [usage or 0.0 for usage in course.kv_usage]
    most_replicas = max([1, *course.num_replicas])
    is_changing = len(set(course.num_replicas)) > 1
    return Chart(
        course.pool,
        _points(times_s, course.num_running, most),
        _points(times_s, course.num_waiting, most),
        _points(times_s, usages, 1.0) if any(usage is not None for usage in course.kv_usage) else "",
        _points(times_s, course.num_replicas, most_replicas) if is_changing else "",
        most,
        most_replicas,
    )


def _points(times_s: Sequence[float], values: Sequence[float], most: float) -> str:
    """Return the points of a line; time goes to the right, values up to `most` go up."""
    last_s = times_s[-1] or 1.0
    return " ".join(
        f"{CHART_WIDTH * time_s / last_s:.1f},{CHART_HEIGHT * (1 - value / most):.1f}"
        for time_s, value in zip(times_s, values, strict=True)
    )
