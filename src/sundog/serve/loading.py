"""A flow file as the live host serves it: planned, with the columns that its rows must have.

Owns what a flow may not be that is served. Never opens an engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sundog.config import Config
from sundog.errors import FlowError
from sundog.flow.columns import columns_that_rows_need
from sundog.ir.logical import LogicalPlan
from sundog.ir.tables import InputRows
from sundog.live.host import Served
from sundog.measured.node_history import read_history
from sundog.measured.selectivity import selectivity_of
from sundog.session.choices import PlanChoices
from sundog.session.flow_file import load_plan
from sundog.session.kept_lists import KeptLists
from sundog.session.planned_flow import plan_flow
from sundog.session.session import open_operators

NO_CHOICES = PlanChoices()


@dataclass(frozen=True, slots=True)
class LoadedFlow:
    """A flow that is ready to be served."""

    path: Path
    served: Served
    #: The columns that a row must have, in the order of the alphabet.
    columns: tuple[str, ...]
    #: The names of its outputs, in order.
    outputs: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.served.name


def load_served(path: Path, config: Config) -> LoadedFlow:
    """Return the flow of a file; FlowError for what is wrong in it, or where it is none that can be served."""
    written = load_plan(path, {}, KeptLists(config))
    _check(written, path)
    operators = open_operators(written, path.parent)
    plan = plan_flow(written, operators, NO_CHOICES, _shown_selectivity(written, config)).plan
    (table,) = written.tables
    outputs = tuple(name for name, _ in table.outputs)
    return LoadedFlow(path, Served(plan, operators), columns_that_rows_need(table), outputs)


def replanned(flow: LoadedFlow, config: Config) -> LoadedFlow:
    """Return the same flow, planned by what its rows have shown since."""
    served, written = flow.served, flow.served.plan.written
    plan = plan_flow(written, served.operators, NO_CHOICES, _shown_selectivity(written, config)).plan
    return replace(flow, served=replace(served, plan=plan))


def check_flow_names(flows: Sequence[LoadedFlow]) -> None:
    """Raise FlowError where two files hold flows of one name."""
    by_name: dict[str, Path] = {}
    for flow in flows:
        if flow.name in by_name:
            what = f"two flows are named '{flow.name}': {by_name[flow.name]} and {flow.path}"
            raise FlowError(what, where=str(flow.path), hint="give one of them another name")
        by_name[flow.name] = flow.path


def _shown_selectivity(written: LogicalPlan, config: Config) -> Mapping[str, float]:
    return selectivity_of(written, [], read_history(config.state_dir, written.name))


def _check(written: LogicalPlan, path: Path) -> None:
    if [table.name for table in written.tables] != [""]:
        what = "a flow with `tables` is no flow of one row, which is what clients send"
        raise FlowError(what, where=str(path), hint="run it as a batch: sundog run")
    (table,) = written.tables
    if isinstance(table.source, InputRows) and table.joined:
        joined = ", ".join(f"'{name}'" for name in table.joined)
        what = f"the flow joins the input {joined} to its rows, which a served flow does not do"
        raise FlowError(what, where=str(path), hint="look it up with an sql step, or let clients send these columns")
