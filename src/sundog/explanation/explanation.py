"""The document that `explain` shows of a session: its plans, what they take, what was rewritten, what to change.

Owns gathering it, from one opening of the rows. Runs no step; the arithmetic is in the room cost, the forms in present.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from sundog.explanation.plan_facts import pool_facts, sharing_reasons
from sundog.explanation.prompt_advice import prompt_advice
from sundog.explanation.saved_by_rewrites import rewrite_documents
from sundog.ir.templates.template import Path
from sundog.present.document import Explained, PlanDocument, WarningDocument, document_of
from sundog.present.logical_tree import logical_tree
from sundog.present.physical_tree import physical_tree
from sundog.present.tables import rows_shown, way_of
from sundog.present.text import plan_text
from sundog.runtime.row_order import reading_order_of
from sundog.runtime.tables.flow_inputs import FlowInputs
from sundog.session.machines import OnCluster
from sundog.session.session import Session

if TYPE_CHECKING:
    from sundog.runtime.figures.report import Report

MAX_ROWS_SAID = 5
"""So many rows' conversations stand in a page."""
NOT_WHOLE = "this process has not run all of the run: seconds are its own, --fresh runs everything"


class Explanation:
    """This class explains the flow of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._flow = session.flow
        self._plan = session.plan

    def document(self, on: OnCluster | None = None) -> PlanDocument:
        """Return what explain shows, as data; with `on` also how the plan is spread over many machines. Reads the
        inputs, runs no step."""
        with closing(self._session.rows):
            inputs = self._session.rows.as_written()
            rows = self._session.estimates.table_rows(inputs)
            rows.tell_pairs(self._plan)
            costs = self._session.estimates.costs_over(rows)
            order = self._reading_order(inputs)
            advice = prompt_advice(self._flow, rows)
            findings = self._session.inspect(inputs)
            estimate = costs.estimate(self._plan)
            placing = self._session.estimates.placed(costs, estimate)
            estimate = costs.with_makespan(self._plan, estimate, placing)
            rewrites = rewrite_documents(self._flow, costs, estimate)
            cluster = None
            if on is not None:
                from sundog.explanation.cluster_plan import cluster_plan  # what few ask for

                cluster = cluster_plan(self._flow, inputs, on)
        explained = Explained(
            logical_tree(self._flow.written),
            replace(self._plan, placement=None if placing is None else placing[1]),
            pool_facts(self._flow),
            sharing_reasons(self._flow),
            rewrites,
            order,
            advice,
            [WarningDocument(one.place, one.what, one.hint, one.is_fatal) for one in findings],
            cluster,
        )
        return document_of(explained, estimate)

    def _reading_order(self, inputs: FlowInputs) -> tuple[Path, ...]:
        """Return the values to read the rows of the first input by; none, for the order in which they come."""
        made = {table.name: table for table in self._plan.logical.tables}
        found = ((made[table.name], rows) for table, rows in inputs.sources() if table.name in made)
        table, rows = next(found, (None, None))
        if table is None or rows is None:
            return ()
        return reading_order_of(table, rows, self._plan.max_rows_in_flight)

    def analyzed(
        self, document: PlanDocument, report: Report, rows: Mapping[str, Mapping[str, int]], *, is_whole: bool
    ) -> PlanDocument:
        """Return `document` with what the run did. `rows`: by table and state. `is_whole`: the process that reports has
        run all of it."""
        # Few commands analyze, and these bring the store along.
        from sundog.present.analysis import with_actual
        from sundog.runtime.figures.actuals import actuals_of

        notes = () if is_whole else (NOT_WHOLE,)
        return with_actual(
            document,
            actuals_of(report, self._plan),
            report.rows_s if is_whole else None,
            notes,
            is_whole=is_whole,
            rows=rows,
        )

    def shown(self, document: PlanDocument, form: str, run_id: str | None = None) -> str:
        """Return a document of this session; `form`: text, json or html. `run_id`: of the run that was analyzed, of
        whose conversations a page shows some."""
        if form == "json":
            return json.dumps(document.to_dict())
        if form == "html":
            from sundog.present.html import html_of

            if run_id is None:
                return html_of(document)
            from sundog.runtime.kept_conversations import some_conversations

            return html_of(document, *some_conversations(self._session.state_dir, run_id, MAX_ROWS_SAID))
        placed = replace(self._plan, placement=document.placement)
        pools, reasons = pool_facts(self._flow), sharing_reasons(self._flow)
        ways = {table.name: f"{way_of(table)}, {rows_shown(table)} rows" for table in document.tables}
        physical = physical_tree(placed, pools, reasons, document.num_rows, document.reading_order, ways)
        return plan_text(document, physical).rstrip("\n")
