"""The comparison of what a run did with what was expected of it.

Owns the comparison and its text. The numbers of the run come from its report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from sundog.cost.estimate import Estimate
from sundog.cost.node_cost import REUSED
from sundog.present.document import QUANTITIES, PlanDocument, StepDocument
from sundog.present.figures import show_actual, show_estimate
from sundog.present.tables import LEFT_RANGE, with_rows

NO_ROWS: Mapping[str, Mapping[str, int]] = {}
OF_ALL = frozenset({"num_asked", "num_asked_prompt_tokens"})
"""Quantities that do not grow smaller where results of earlier runs are used."""


def with_actual(
    document: PlanDocument,
    by_step: Mapping[str, Mapping[str, float]],
    makespan_s: float | None,
    notes: tuple[str, ...],
    *,
    is_whole: bool = True,
    rows: Mapping[str, Mapping[str, int]] = NO_ROWS,
) -> PlanDocument:
    """Return the document with what a run did beside the estimate.

    `by_step`: quantities of each call that the run knows; `makespan_s`: None where one process did not do it all;
    `notes`: what the reader should know of these numbers; `is_whole`: one process did it all;
    `rows`: by table and state, of a flow that names its tables.
    """
    reused = {name: actual[REUSED] for name, actual in by_step.items() if REUSED in actual}
    if reused:
        counts = ", ".join(f"{number:,.0f} of {name}" for name, number in reused.items())
        notes = (*notes, f"results of earlier runs answered calls: {counts}; --fresh executes them")
    totals = {
        name: sum(actual[name] for actual in by_step.values() if name in actual)
        for name in QUANTITIES
        if name in document.totals and any(name in actual for actual in by_step.values())
    }
    return replace(
        document,
        steps=tuple(_step(step, by_step) for step in document.steps),
        tables=with_rows(document.tables, rows),
        actual_totals=totals,
        actual_makespan_s=makespan_s,
        is_actual_partial=bool(reused) or not is_whole,
        missing=(*document.missing, *notes),
    )


def left_range(estimate: Estimate, actual: float, quantity: str, *, is_partial: bool = False) -> bool:
    """Return whether a number is outside its range as both are shown. `is_partial`: other runs or processes did a part
    of the work, so that less than the estimate says nothing."""
    slack = 0.5 if quantity.startswith("num_") else 1e-9
    is_below = actual < estimate.low - slack and not (is_partial and quantity not in OF_ALL)
    return is_below or actual > estimate.high + slack


def analysis_lines(document: PlanDocument) -> Iterator[str]:
    """Estimate and actual of each step and in total, one quantity a line."""
    assert document.actual_totals is not None, "nothing was run"
    is_partial = document.is_actual_partial
    rows = [
        row
        for step in document.calls()
        for row in _rows(step.name, step.estimate or {}, step.actual or {}, is_partial=is_partial)
    ]
    rows += _rows("total", document.totals, document.actual_totals, is_partial=is_partial)
    if document.makespan_s is not None and document.actual_makespan_s is not None:
        makespan = {"makespan": document.makespan_s}, {"makespan": document.actual_makespan_s}
        rows += _rows("", *makespan, is_partial=is_partial)
    widths = [max(len(row[column]) for row in [HEAD, *rows]) for column in range(4)]
    for name, quantity, estimate, actual, mark in [HEAD, *rows]:
        line = f"{name:<{widths[0]}}  {quantity:<{widths[1]}}  {estimate:<{widths[2]}}  {actual:>{widths[3]}}  {mark}"
        yield line.rstrip()


HEAD = ("step", "", "estimate", "actual", "")


def _rows(
    name: str, estimates: Mapping[str, Estimate], actual: Mapping[str, float], *, is_partial: bool
) -> list[tuple[str, str, str, str, str]]:
    found: list[tuple[str, str, str, str, str]] = []
    for quantity, estimate in estimates.items():
        label = QUANTITIES.get(quantity, "makespan, seconds")
        done, mark = "", ""
        if quantity in actual:
            done = show_actual(actual[quantity], quantity)
            mark = LEFT_RANGE if left_range(estimate, actual[quantity], quantity, is_partial=is_partial) else ""
        found.append((name if not found else "", label, str(show_estimate(estimate, quantity)), done, mark))
    return found


def _step(step: StepDocument, by_step: Mapping[str, Mapping[str, float]]) -> StepDocument:
    body = tuple(_step(inner, by_step) for inner in step.body)
    return replace(step, body=body, actual=by_step.get(step.name) if step.kind == "call" else None)
