"""Tables of another flow: what of it comes along, and what must not differ.

Owns the choice of that. The other flow is read and bound by itself, as if it were run alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from sundog.errors import FlowError, Location, suggest
from sundog.flow.complaints import Complaints, with_article
from sundog.flow.names import Names
from sundog.flow.positions import DataPath, Positions
from sundog.flow.taken import Taken
from sundog.flow.validation import read
from sundog.ir.graph import table_order
from sundog.ir.logical import EngineBlock, InputSource, LogicalPlan, Table, WorkerGroup, steps_of

LoadFlow = Callable[[Path], LogicalPlan]
"""Reads another flow; FlowError for what is wrong in it."""
T = TypeVar("T", EngineBlock, InputSource, WorkerGroup)


class OtherTable(BaseModel):
    """A table of another flow."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    #: A file in the folder of this flow.
    flow: str = Field(min_length=1)
    #: None for the only table of a flow without `tables`.
    table: str | None = None


class OtherTableSpec(BaseModel):
    """A table that another flow computes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    from_: OtherTable = Field(alias="from")


class OtherFlows:
    """This class takes tables of other flows into one. What is wrong goes to `complaints`."""

    def __init__(
        self, load: LoadFlow, base_dir: Path, positions: Positions, complaints: Complaints, names: Names, taken: Taken
    ) -> None:
        """`taken`: what the flow has itself; what comes along is added to it."""
        self._load = load
        self._base_dir = base_dir
        self._positions = positions
        self._complaints = complaints
        self._names = names
        self._taken = taken
        self._plans: dict[Path, LogicalPlan] = {}

    def take(self, written: Mapping[str, Any]) -> None:
        """Take the tables `written`, each `{from: {flow: PATH, table: NAME}}`, and what they are made of. A table has
        the name under which it is written; those that it is made of keep theirs."""
        for name, data in written.items():
            place: DataPath = ("tables", name)
            spec = read(OtherTableSpec, data, place, self._positions, self._complaints)
            plan = None if spec is None else self._plan(spec.from_.flow, (*place, "from"))
            if spec is not None and plan is not None:
                self._take(name, spec.from_, plan)

    def _take(self, name: str, written: OtherTable, plan: LogicalPlan) -> None:
        place: DataPath = ("tables", name, "from")
        known = [one.name for one in plan.tables]
        wanted = written.table if written.table is not None else known[0] if known == [""] else None
        if wanted not in known:
            listed = f"has {len(known)} tables: say which" if wanted is None else f"has no table '{wanted}'"
            self._complaints.add(f"{written.flow} {listed}", self._positions.key(place), suggest(wanted or "", known))
            return
        where, needed = self._positions.key(place), _needed(plan, wanted)
        for one in needed:
            self._take_table(replace(one, name=name) if one.name == wanted else one, where)
        self._take_parts(plan, needed, written.flow, where)

    def _plan(self, flow: str, place: DataPath) -> LogicalPlan | None:
        path = self._base_dir / flow
        where = self._positions.value((*place, "flow"))
        if path.parent.resolve() != self._base_dir.resolve():
            what = f"the flow {flow} is not in the folder of this one"
            self._complaints.add(what, where, "paths and functions of both count from one folder")
            return None
        try:
            if path not in self._plans:
                self._plans[path] = self._load(path)
        except FlowError as error:
            at = error.where if isinstance(error.where, Location) else where
            self._complaints.add(error.what, at, error.hint)
            return None
        return self._plans[path]

    def _take_table(self, table: Table, where: Location) -> None:
        if self._taken.tables.get(table.name) == table:
            return
        self._names.give(table.name, "table", where)
        for step in steps_of(table.nodes):
            self._names.give(step.name, "step", where)
        self._taken.tables[table.name] = table

    def _take_parts(self, plan: LogicalPlan, tables: Sequence[Table], flow: str, where: Location) -> None:
        """Take the inputs that the tables read, and the engines, workers, constants and limits of the flow."""
        read = {name for table in tables for name in table.reads}
        inputs = [source for source in plan.inputs if source.name in read]
        self._merge(self._taken.inputs, inputs, "input", flow, where)
        self._merge(self._taken.engines, plan.engines, "engine", flow, where)
        self._merge(self._taken.workers, plan.workers, "group of workers", flow, where)
        for name, value in plan.constants.items():
            if self._taken.constants.setdefault(name, value) != value:
                self._differ("constant", name, flow, where)
        for pool, limit in plan.limits.items():
            self._taken.limits.setdefault(pool, limit)

    def _merge(self, own: dict[str, T], theirs: Sequence[T], kind: str, flow: str, where: Location) -> None:
        for one in theirs:
            if own.setdefault(one.name, one) != one:
                self._differ(kind, one.name, flow, where)

    def _differ(self, kind: str, name: str, flow: str, where: Location) -> None:
        what = f"this flow and {flow} both have {with_article(kind)} '{name}', and they differ"
        self._complaints.add(what, where, "rename one of them, or make them equal")


def _needed(plan: LogicalPlan, table: str) -> list[Table]:
    """Return a table and those that it is made of, each after those that it reads."""
    by_name = {one.name: one for one in plan.tables}
    needed = {table}
    for one in reversed(table_order(plan.tables)):
        if one.name in needed:
            needed.update(name for name in one.reads if name in by_name)
    return [one for one in table_order(plan.tables) if one.name in needed]
