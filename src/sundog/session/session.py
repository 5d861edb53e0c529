"""A planned flow, and the run that is opened of it: where the rooms are wired together.

Owns the order of these steps. Everything it does is in the rooms that it calls; what only a run needs is imported
there, since that is half of a command's start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sundog.config import Config
from sundog.errors import ConfigError
from sundog.ir.logical import LogicalPlan, steps_of
from sundog.ir.physical import PhysicalPlan
from sundog.operators.base import OPERATORS, Operator
from sundog.runtime.preflight.inspection import PlanFinding, inspect_plan, refuse
from sundog.runtime.rows.inputs import RowSource
from sundog.session.choices import PlanChoices
from sundog.session.estimates import FlowEstimates, selectivity_of_filters
from sundog.session.flow_rows import FlowRows
from sundog.session.planned_flow import PlannedFlow, check_choices, plan_flow

if TYPE_CHECKING:
    from sundog.runtime.run import Run, RunOptions

NO_CHOICES = PlanChoices()


class Session:
    """One planned flow, to be run or explained. To make one reads nothing; `plan_session` makes them."""

    def __init__(self, flow: PlannedFlow, rows: FlowRows, base_dir: Path, config: Config) -> None:
        #: The flow as it was written, chosen and planned.
        self.flow = flow
        #: Its rows; nothing of them has been read but what planning needed.
        self.rows = rows
        #: The estimates of what it will take.
        self.estimates = FlowEstimates(flow, rows, config.state_dir)
        self._base_dir = base_dir
        self._secrets = config.secrets

    @property
    def plan(self) -> PhysicalPlan:
        """The plan that a run executes."""
        return self.flow.plan

    @contextmanager
    def open_run(self, options: RunOptions) -> Iterator[Run]:
        """Yield the run that is meant, locked while open, and looked at; InputError for columns that are not there,
        ConfigError where no row can succeed."""
        from sundog.runtime.preflight.distinct_files import check_distinct
        from sundog.runtime.rows.outputs import check_output_path
        from sundog.runtime.run import open_run

        if options.output is not None:
            check_output_path(options.output)
            check_distinct(options.output, self.flow.written.inputs, self._base_dir, self._files())
        choices = self.flow.choices
        inputs = {**asdict(choices.rows), **choices.rewriting.identity()}
        operators, placing = self.flow.operators, self.estimates.placing
        with (
            closing(self.rows),
            open_run(self.plan, self._open_rows, inputs, operators, self._secrets, options, placing) as run,
        ):
            if not run.is_finished:
                run.findings = self.inspect(run.source)
                try:
                    refuse(run.findings)
                except ConfigError:
                    run.discard()
                    raise
            yield run

    def inspect(self, rows: RowSource) -> tuple[PlanFinding, ...]:
        """Return what is wrong with a run over `rows`, as can be seen before the first call."""
        return inspect_plan(self.plan, rows, lambda: open_operators(self.flow.written, self._base_dir), self._secrets)

    def _open_rows(self, snapshot_dir: Path) -> RowSource:
        """Return the rows that a run reads, with those columns only that its plan uses."""
        return self.rows.open(self.plan.logical.inputs, snapshot_dir)

    def _files(self) -> dict[Path, str]:
        """Return the files that a run reads or writes besides its inputs, and what each is."""
        steps = steps_of(self.flow.written.nodes)
        found = {Path(step.location.file): "the flow" for step in steps if step.location is not None}
        for step in steps:
            for name in self.flow.operators[step.operator].traits(step.spec).files:
                found[self._base_dir / name] = f"a file of step '{step.name}'"
        return found


def plan_session(written: LogicalPlan, base_dir: Path, config: Config, choices: PlanChoices = NO_CHOICES) -> Session:
    """Plan a flow. `base_dir`: relative paths begin here. Reads a sample of the rows, and the history of earlier runs,
    where the order of filters may depend on them, and nothing else. The session's `rows.close()` lets go of the files;
    `open_run` does it in the end.

    ConfigError for a choice that does not exist, FlowError for what cannot be planned, InputError for rows that cannot
    be read.
    """
    check_choices(choices)
    if [table.name for table in written.tables] != [""]:
        raise ConfigError("a flow with tables can be written, but not yet run")
    rows = FlowRows(written, base_dir, choices.rows)
    operators = open_operators(written, base_dir)
    selectivity = selectivity_of_filters(written, rows, config.state_dir)
    return Session(plan_flow(written, operators, choices, selectivity), rows, base_dir, config)


def open_operators(plan: LogicalPlan, base_dir: Path) -> dict[str, Operator]:
    """Return an operator for each kind of step of `plan`."""
    names = sorted({step.operator for step in steps_of(plan.nodes)})
    return {name: OPERATORS.get(name)(base_dir) for name in names}
