"""A planned flow, and the run that is opened of it: where the rooms are wired together.

Owns the order of these steps. Everything it does is in the rooms that it calls; what only a run needs is imported
there, since that is half of a command's start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sundog.config import Config
from sundog.errors import ConfigError, StoreError
from sundog.ir.logical import LogicalPlan, steps_of
from sundog.ir.physical import PhysicalPlan
from sundog.operators.base import OPERATORS, Operator
from sundog.runtime.preflight.inspection import PlanFinding, inspect_plan, refuse
from sundog.runtime.tables.flow_inputs import FlowInputs
from sundog.session.choices import PlanChoices
from sundog.session.estimates import FlowEstimates, selectivity_of_filters
from sundog.session.flow_rows import FlowRows
from sundog.session.kept_lists import KeptLists
from sundog.session.planned_flow import PlannedFlow, check_choices, plan_flow
from sundog.store.segments.opened import state_cache

if TYPE_CHECKING:
    from sundog.runtime.row_work import OpenWork
    from sundog.runtime.run import Run
    from sundog.runtime.run_options import RunOptions

NO_CHOICES = PlanChoices()


class Session:
    """One planned flow, to be run or explained. To make one reads nothing; `plan_session` makes them."""

    def __init__(
        self, flow: PlannedFlow, rows: FlowRows, base_dir: Path, config: Config, lists: KeptLists | None = None
    ) -> None:
        #: The flow as it was written, chosen and planned.
        self.flow = flow
        #: Its rows; nothing of them has been read but what planning needed.
        self.rows = rows
        #: The estimates of what it will take.
        self.estimates = FlowEstimates(flow, rows, config.state_dir)
        #: The folder that its runs are kept in.
        self.state_dir = config.state_dir
        self._base_dir = base_dir
        self._secrets = config.secrets
        self._lists = lists

    @property
    def plan(self) -> PhysicalPlan:
        """The plan that a run executes."""
        return self.flow.plan

    @contextmanager
    def open_run(self, options: RunOptions, open_work: OpenWork | None = None) -> Iterator[Run]:
        """Yield the run that is meant, locked while open, and looked at; InputError for columns that are not there,
        ConfigError where no row can succeed, an output cannot be written, or the plan is bound to this machine and
        others are to work on it. `open_work`: the means by which its rows are worked on, None for this process."""
        from sundog.runtime.local_work import local_work
        from sundog.runtime.open_run import keep_plan, open_run
        from sundog.runtime.preflight.distinct_files import check_distinct
        from sundog.runtime.rows.outputs import check_output_folders, check_output_paths

        check_output_paths(options.outputs)
        for output in options.outputs.values():
            check_distinct(output, self.flow.written.inputs, self._base_dir, self._files())
        choices = self.flow.choices
        inputs = {**asdict(choices.rows), **choices.rewriting.identity()}
        operators = self.flow.operators
        notes: tuple[str, ...] = ()
        if open_work is not None:
            from sundog.runtime.preflight.many_machines import check_many_machines  # what few runs need

            cache = state_cache(self.state_dir)
            found = check_many_machines(self.plan, operators, cache.url if cache else self.state_dir)
            found.raise_if_refused()
            notes = found.notes
        open_work = open_work or partial(local_work, placing=self.estimates.placing)
        with (
            closing(self.rows),
            open_run(self.plan, self._open_inputs, inputs, operators, self._secrets, options, open_work) as run,
        ):
            if run.is_new and self._lists is not None:
                self._lists.keep(run.folder)
            try:
                check_output_folders(options.outputs, run.record.run_id)
                if not run.is_finished:
                    run.notes = notes
                    run.findings = self.inspect(run.inputs)
                    refuse(run.findings)
            except (ConfigError, StoreError):
                run.discard()
                raise
            if not run.is_finished:
                keep_plan(run)
            yield run

    def inspect(self, inputs: FlowInputs) -> tuple[PlanFinding, ...]:
        """Return what is wrong with a run over `inputs`, as can be seen before the first call."""
        operators = partial(open_operators, self.flow.written, self._base_dir)
        told = () if self._lists is None else self._lists.findings
        return (*told, *inspect_plan(self.plan, inputs, operators, self._secrets))

    def _open_inputs(self, snapshot_dir: Path) -> FlowInputs:
        """Return the inputs that a run reads, with those columns only that its plan uses."""
        return self.rows.open(self.plan.logical, snapshot_dir)

    def _files(self) -> dict[Path, str]:
        """Return the files that a run reads or writes besides its inputs, and what each is."""
        steps = steps_of(self.flow.written.nodes)
        places = [step.location for step in steps] + [table.location for table in self.flow.written.tables]
        found = {Path(place.file): "the flow" for place in places if place is not None}
        for step in steps:
            for name in self.flow.operators[step.operator].traits(step.spec).files:
                found[self._base_dir / name] = f"a file of step '{step.name}'"
        return found


def plan_session(
    written: LogicalPlan,
    base_dir: Path,
    config: Config,
    choices: PlanChoices = NO_CHOICES,
    lists: KeptLists | None = None,
) -> Session:
    """Plan a flow. `base_dir`: relative paths begin here. `lists`: those that gave the tools of servers. Reads a sample
    of the rows, and the history of earlier runs, where the order of filters may depend on them, and nothing else. The
    session's `rows.close()` lets go of the files; `open_run` does it in the end.

    ConfigError for a choice that does not exist, FlowError for what cannot be planned, InputError for rows that cannot
    be read.
    """
    check_choices(choices)
    if choices.via is not None:
        from sundog.session.through_server import through_server  # what few runs need

        written = through_server(written, choices.via, config.server_key)
    rows = FlowRows(written, base_dir, choices.rows)
    operators = open_operators(written, base_dir)
    if [table.name for table in written.tables] == [""]:
        selectivity = selectivity_of_filters(written, rows, config.state_dir)
        return Session(plan_flow(written, operators, choices, selectivity), rows, base_dir, config, lists)
    from sundog.session.query_check import check_queries, with_columns  # what reads queries, which few flows have

    with closing(rows):
        written, columns = check_queries(written, operators, rows.as_written().relations)
    flow = plan_flow(written, operators, choices, {})
    flow = replace(flow, plan=with_columns(flow.plan, columns))
    return Session(flow, FlowRows(written, base_dir, choices.rows, rows.kept), base_dir, config, lists)


def open_operators(plan: LogicalPlan, base_dir: Path) -> dict[str, Operator]:
    """Return an operator for each kind of step of `plan`."""
    names = sorted({step.operator for step in steps_of(plan.nodes)})
    return {name: OPERATORS.get(name)(base_dir) for name in names}
