"""The estimates of a planned flow, from a sample of its rows and what was measured before.

Owns which rows are sampled for which question. The arithmetic is in cost; what was measured is in measured. What only
an estimate needs is imported where one is made: it is half of a command's start.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from sundog.batch.follower import PlacementWithFigures, engine_replicas
from sundog.deployment import call_limits
from sundog.ir.logical import Filter, LogicalPlan
from sundog.ir.tables import InputRows
from sundog.measured.loads import expected_loads, known_loads
from sundog.measured.node_history import read_history
from sundog.optimizer.placement_figures import PlacementFigures, figures_of
from sundog.optimizer.rules.reorder_filters import cannot_fail
from sundog.runtime.tables.flow_inputs import FlowInputs
from sundog.session.flow_rows import FlowRows
from sundog.session.planned_flow import PlannedFlow

if TYPE_CHECKING:
    from sundog.cost.plan_estimate import PlanEstimate
    from sundog.measured.plan_costs import PlanCosts
    from sundog.session.rows_before_runs import TableRowsBeforeRuns
    from sundog.store.runs import RunRecord


class FlowEstimates:
    """This class estimates one planned flow. Its methods raise InputError where they read rows that cannot be read."""

    def __init__(self, flow: PlannedFlow, rows: FlowRows, state_dir: Path) -> None:
        self._flow = flow
        self._rows = rows
        self._state_dir = state_dir

    def table_rows(self, inputs: FlowInputs, num_rows: int | None = None) -> TableRowsBeforeRuns:
        """Return what is known of the rows of the flow's tables, for as long as `inputs` are open. `num_rows`: how many
        the first input has, None where they are to be counted."""
        from sundog.measured.plan_costs import characters_to_sample, num_rows_to_sample
        from sundog.session.rows_before_runs import TableRowsBeforeRuns

        plan = self._flow.plan
        return TableRowsBeforeRuns(inputs, plan, num_rows_to_sample(plan), characters_to_sample(plan), num_rows)

    def costs(self, inputs: FlowInputs, num_rows: int | None = None, *, counts_tokens: bool = True) -> PlanCosts:
        """Return what plans of this flow cost over samples of the rows of its tables, as of `table_rows`."""
        return self.costs_over(self.table_rows(inputs, num_rows), counts_tokens=counts_tokens)

    def costs_over(self, rows: TableRowsBeforeRuns, *, counts_tokens: bool = True) -> PlanCosts:
        """Return what plans of this flow cost over samples of `rows`."""
        from sundog.measured.plan_costs import PlanCosts

        written = self._flow.written
        return PlanCosts(
            written.name,
            written.engines,
            self._flow.operators,
            self._state_dir,
            rows,
            counts_tokens=counts_tokens,
        )

    def placing(self, share_left: float = 1.0) -> PlacementWithFigures | None:
        """Return where the steps of a run over the whole input run, of which `share_left` is left; None without
        workers."""
        with closing(self._rows):
            costs = self.costs(self._rows.as_written())
            return self.placed(costs, costs.estimate(self._flow.plan), share_left)

    def placed(self, costs: PlanCosts, estimate: PlanEstimate, share_left: float = 1.0) -> PlacementWithFigures | None:
        """Return where steps run, and the figures behind it; None without workers."""
        figures = self.figures_of(estimate)
        return costs.placed(self._flow.plan, estimate, figures.left(dict.fromkeys(figures.exec_s, share_left)))

    def figures_of(self, estimate: PlanEstimate) -> PlacementFigures:
        """Return what a placement needs to know of an estimate."""
        plan = self._flow.plan
        limits = call_limits(plan, self._flow.operators)
        return figures_of(estimate, engine_replicas(plan), limits, expected_loads(self._state_dir, plan))

    def assumed_loads(self) -> frozenset[str]:
        """Return the engine pools whose loads were never measured here, so that what one takes is assumed."""
        plan = self._flow.plan
        return frozenset(expected_loads(self._state_dir, plan).keys() - known_loads(self._state_dir, plan).keys())

    def planned_calls(self, run: RunRecord) -> float:
        """Return how many calls the whole of a run is expected to execute, if it finds no results of others. Reads rows
        of the run, those of a query or a function as they were kept. They are opened once more: the run, in another
        thread, is reading its own."""
        snapshots = self._state_dir / "runs" / run.run_id / "inputs"
        with closing(self._rows.open(self._flow.plan.logical, snapshots)) as inputs:
            # The run has written down the rows of tables that are made of inputs, and queries have others.
            tables = self._flow.written.tables
            is_counted = len(tables) == 1 and isinstance(tables[0].source, InputRows)
            num_rows = run.num_rows if is_counted else None
            costs = self.costs(inputs, num_rows, counts_tokens=False)
            return costs.estimate(self._flow.plan).calls.num_executed.expected


def selectivity_of_filters(written: LogicalPlan, rows: FlowRows, state_dir: Path) -> Mapping[str, float]:
    """Return the share of rows that each filter keeps, where their order may depend on it and files tell it: a query or
    a function is run once only, for the run itself. Reads no row of other flows."""
    filters = [node for node in written.nodes if isinstance(node, Filter)]
    constants = frozenset(written.constants)
    if not any(cannot_fail(node.predicate, constants) for node in filters[1:]):
        return {}
    from sundog.measured.plan_costs import MAX_SAMPLED_ROWS, SampledRows
    from sundog.measured.selectivity import selectivity_of

    sampled: SampledRows = []
    if all(source.path is not None for source in written.inputs):
        sampled = rows.as_written().first.sampled(MAX_SAMPLED_ROWS)
    return selectivity_of(written, sampled, read_history(state_dir, written.name))
