"""This module makes a logical plan of what the user wrote.

Owns the order of the checks and the making of plan nodes. Decides nothing about how a step runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sundog.engines.base import ENGINES, EngineOptions
from sundog.errors import FlowError, UserError, suggest
from sundog.flow.agents.server_lists import ASKED_LISTS, ServerLists
from sundog.flow.complaints import Complaints
from sundog.flow.expansions.base import ExpandedTables, MadePositions
from sundog.flow.files.constants import with_constant_files
from sundog.flow.files.flow_file import read_flow_file
from sundog.flow.limits import LimitReader
from sundog.flow.names import Names
from sundog.flow.nodes import NodeBinder, nodes_bound
from sundog.flow.positions import DataPath, Positions
from sundog.flow.prompt_file import FilePositions
from sundog.flow.references import ReferenceCheck
from sundog.flow.secret_check import check_no_secrets, check_secret_spelling
from sundog.flow.spec import EngineSpec, FlowSpec, InputSpec, NodeSpec, OutputSpec, WorkersSpec
from sundog.flow.steps.node_draft import NodeDraft
from sundog.flow.taken import Taken
from sundog.flow.validation import read
from sundog.ir.logical import EngineBlock, InputSource, LogicalPlan, Table, WorkerGroup, steps_of
from sundog.ir.tables import InputRows

if TYPE_CHECKING:
    from sundog.flow.agents.bind_tools import ToolBinder


def load_flow(path: Path, within: tuple[Path, ...] = (), lists: ServerLists = ASKED_LISTS) -> LogicalPlan:
    """Return the plan of a flow file; FlowError with its place for whatever is wrong in it. `within`: the flows that
    take a table of it; `lists`: gives the tools of servers."""
    if path.resolve() in within:
        files = " -> ".join(one.name for one in (*within, path))
        raise FlowError(f"the flows take tables of each other in a circle: {files}", where=str(path))
    document = read_flow_file(path)
    return bind(document.data, document.positions, base_dir=path.parent, within=(*within, path.resolve()), lists=lists)


def bind(
    data: Any,
    positions: Positions,
    *,
    base_dir: Path,
    within: tuple[Path, ...] = (),
    lists: ServerLists = ASKED_LISTS,
) -> LogicalPlan:
    """Return the plan of a flow given as plain data; FlowError that lists everything that is wrong.

    `base_dir`: the folder that relative paths and module names of operators start from. `within` and `lists`: as of
    `load_flow`.
    """
    complaints = Complaints()
    flow = read(FlowSpec, data, (), positions, complaints)
    complaints.raise_if_any()
    assert flow is not None
    found = positions
    if _has_includes(flow) or any(map(_is_flow, flow.tools.values())):
        flow, found = _with_included_steps(flow, base_dir, positions, complaints)
        complaints.raise_if_any()
    if flow.constants:
        constants = with_constant_files(flow.constants, base_dir, found, complaints)
        flow = flow.model_copy(update={"constants": constants})
    made = MadePositions(found)
    others = {name: table for name, table in flow.tables.items() if _is_of_other_flow(table)}
    own = {name: table for name, table in flow.tables.items() if name not in others}
    tables = ExpandedTables(own)
    if own:
        # Few flows have tables.
        from sundog.flow.expansions.catalog import expand

        tables = expand(own, made, complaints)
        complaints.raise_if_any()
    members: Mapping[str, tuple[str, ...]] = {}
    if flow.tools:
        from sundog.flow.agents.tool_sets import expand_sets  # few flows have tools

        said = {"name": flow.name, "tools": flow.tools, "nodes": flow.nodes, "tables": flow.tables}
        sets = expand_sets(said, base_dir, lists, made, complaints)
        complaints.raise_if_any()
        flow, members = flow.model_copy(update={"tools": sets.tools}), sets.members
    binder = _Binder(FilePositions(made), complaints, base_dir, tables.made_by, within, lists, members)
    plan = binder.plan(flow.model_copy(update={"tables": tables.tables}), others)
    complaints.raise_if_any()
    told = (replace(table, candidates=tables.candidates.get(table.name, table.candidates)) for table in plan.tables)
    return replace(plan, tables=tuple(told)) if tables.candidates else plan


class _Binder:
    def __init__(
        self,
        positions: FilePositions,
        complaints: Complaints,
        base_dir: Path,
        made_by: Mapping[str, str],
        within: tuple[Path, ...],
        lists: ServerLists,
        sets: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._within = within
        self._lists = lists
        self._sets = sets
        self._made_by = made_by
        self._positions = positions
        self._complaints = complaints
        self._names = Names(complaints)
        self._base_dir = base_dir
        #: By group.
        self._num_workers: dict[str, int] = {}

    def plan(self, flow: FlowSpec, others: Mapping[str, Any]) -> LogicalPlan:
        """Return the plan of `flow`, with the tables `others` of other flows; where something is wrong, all of it is
        among the complaints, and what is returned is of no use."""
        if not flow.inputs and not others:
            self._complain("a flow needs an input: its rows are what it runs on", ("inputs",))
        workers = tuple(group for name, data in flow.workers.items() if (group := self._workers(name, data)))
        self._num_workers = {group.name: group.count for group in workers}
        engines = tuple(block for name, data in flow.engines.items() if (block := self._engine(name, data, flow)))
        inputs = tuple(
            source
            for index, item in enumerate(flow.inputs.items())
            if (source := self._input(*item, is_first=not index, joins=not flow.tables and not others))
        )
        for name in flow.constants:
            self._names.give(name, "constant", self._positions.key(("constants", name)))
        taken = self._taken(flow, others, engines, workers, inputs)
        # A block that was wrong stands for itself, so that the steps on it are not called wrong too.
        blocks = {**{name: EngineBlock(name, "", {}) for name in flow.engines}, **taken.engines}
        binder = self._node_binder(flow, blocks)
        tables, results, drafts = self._tables(flow, taken, [*flow.tables, *others], binder)
        for section in ("inputs", "constants", "outputs"):
            check_no_secrets(getattr(flow, section), (section,), self._positions, self._complaints)
        return LogicalPlan(
            flow.name,
            tuple(taken.engines.values()),
            tuple(taken.inputs.values()),
            taken.constants,
            tables,
            results,
            tuple(taken.workers.values()),
            flow.objective,
            limits={**taken.limits, **self._limits(flow, drafts)},
        )

    def _taken(
        self,
        flow: FlowSpec,
        others: Mapping[str, Any],
        engines: Sequence[EngineBlock],
        workers: Sequence[WorkerGroup],
        inputs: Sequence[InputSource],
    ) -> Taken:
        """Return the flow's own parts, with those that come along with tables of other flows."""
        taken = Taken(
            {one.name: one for one in engines},
            {one.name: one for one in workers},
            {one.name: one for one in inputs},
            dict(flow.constants),
        )
        if others:
            from sundog.flow.tables.other_flow import OtherFlows  # few flows take tables of others

            def load(path: Path) -> LogicalPlan:
                return load_flow(path, self._within, self._lists)

            flows = OtherFlows(load, self._base_dir, self._positions, self._complaints, self._names, taken)
            flows.take(others)
        return taken

    def _node_binder(self, flow: FlowSpec, engines: Mapping[str, EngineBlock]) -> NodeBinder:
        """Return what binds the nodes of the flow, agents too, which may use its tools."""

        @cache
        def tools() -> ToolBinder:
            from sundog.flow.agents.bind_tools import ToolBinder  # few flows have agents

            return ToolBinder(self._positions, self._complaints, self._names, binder_with, flow.tools, flow.constants)

        def binder_with(names: Names) -> NodeBinder:
            binder = NodeBinder(self._positions, self._complaints, names, self._base_dir, engines)

            def draft(name: str, spec: NodeSpec, path: DataPath) -> NodeDraft:
                from sundog.flow.agents.bind_agents import AgentBinder

                written = (self._positions, self._complaints, names, binder)
                return AgentBinder(*written, engines, tools(), self._sets).draft(name, spec, path)

            binder.draft_agent = draft
            return binder

        if flow.tools:
            tools().bind_all()
        return binder_with(self._names)

    def _tables(
        self, flow: FlowSpec, taken: Taken, written: Sequence[str], binder: NodeBinder
    ) -> tuple[tuple[Table, ...], tuple[str, ...], Sequence[NodeDraft]]:
        """Return the tables, the names of those that are results, and the drafts of all nodes. `written`: the names of
        the tables that the flow has."""
        names = tuple(taken.inputs)
        if written:
            # Few flows have queries, and whatever reads them is slow to import.
            from sundog.flow.tables.bind_tables import TableBinder

            binder_of_tables = TableBinder(self._positions, self._complaints, self._names, binder, taken, self._made_by)
            return binder_of_tables.bound(flow, written)
        if flow.results is not None:
            where = self._positions.key(("results",))
            self._complaints.add("'results' names tables, and this flow has none", where, "take it out")
        if not flow.outputs:
            self._complain("a flow needs outputs: the columns of its result", ("outputs",))
        rows = InputRows("".join(names[:1]), names[1:])
        drafts = binder.drafts(flow.nodes, ("nodes",))
        outputs = tuple(
            (name, output.root)
            for name, data in flow.outputs.items()
            if (output := read(OutputSpec, data, ("outputs", name), self._positions, self._complaints))
        )
        ReferenceCheck(self._positions, self._complaints, rows).check(drafts, flow.constants, outputs)
        return (Table("", rows, nodes_bound(drafts), outputs),), ("",), drafts

    def _workers(self, name: str, data: Any) -> WorkerGroup | None:
        path: DataPath = ("workers", name)
        self._names.check(name, "group of workers", self._positions.key(path))
        spec = read(WorkersSpec, data, path, self._positions, self._complaints)
        return None if spec is None else WorkerGroup(name, **spec.model_dump())

    def _engine(self, name: str, data: Any, flow: FlowSpec) -> EngineBlock | None:
        path: DataPath = ("engines", name)
        self._names.check(name, "engine", self._positions.key(path))
        spec = read(EngineSpec, data, path, self._positions, self._complaints)
        if spec is None:
            return None
        try:
            kind = ENGINES.get(spec.kind)
        except UserError as error:
            self._complaints.add(error.what, self._positions.value((*path, "kind")), error.hint)
            return None
        check_secret_spelling(spec.options, path, self._positions, self._complaints)
        options: EngineOptions | None = read(kind.Options, spec.options, path, self._positions, self._complaints)
        if options is None:
            return None
        number = kind().num_replicas(options)
        if spec.workers is not None:
            self._check_workers(spec, number, flow, path)
            number = self._num_workers.get(spec.workers, 1)
        most = options.max_replicas()
        if most is not None and number > most:
            where = self._positions.key((*path, "environment"))
            asked = f"{number} replicas" if spec.workers is None else f"{number} workers of '{spec.workers}'"
            hint = "name more GPUs, or ask for fewer"
            self._complaints.add(f"the GPUs that the block names have room for {most}, not for {asked}", where, hint)
        where = self._positions.key(path)
        return EngineBlock(name, spec.kind, options.model_dump(mode="json"), where, spec.workers)

    def _check_workers(self, spec: EngineSpec, num_replicas: int, flow: FlowSpec, path: DataPath) -> None:
        if spec.workers not in flow.workers:
            hint = suggest(spec.workers or "", flow.workers) if flow.workers else "write workers: {gpu: {count: 1}}"
            where = self._positions.value((*path, "workers"))
            self._complaints.add(f"unknown group of workers '{spec.workers}'", where, hint)
        if "replicas" in spec.options or num_replicas != 1:
            where = self._positions.key((*path, "replicas" if "replicas" in spec.options else "workers"))
            hint = "leave 'replicas' out: the group's count and the plan decide how many there are"
            self._complaints.add("an engine on workers has one replica on each", where, hint)

    def _limits(self, flow: FlowSpec, drafts: Sequence[NodeDraft]) -> dict[str, int]:
        if not flow.limits:
            return {}
        nodes = nodes_bound(drafts)
        is_whole = _are_whole(drafts)
        reader = LimitReader(steps_of(nodes), self._base_dir, self._positions, self._complaints, is_whole=is_whole)
        return reader.limits(flow.limits, flow.engines)

    def _input(self, name: str, data: Any, *, is_first: bool, joins: bool) -> InputSource | None:
        """`joins`: the inputs behind the first are joined to it, as in every flow without tables."""
        path: DataPath = ("inputs", name)
        where = self._positions.key(path)
        self._names.give(name, "input", where)
        spec = read(InputSpec, data, path, self._positions, self._complaints)
        if spec is None:
            return None
        if not joins and spec.key is not None:
            at = self._positions.key((*path, "key"))
            self._complaints.add("in a flow with tables inputs have no 'key'", at, "join it in the query of a table")
        elif is_first and spec.key is not None:
            self._complain("the first input has no 'key': the others are joined to it", (*path, "key"))
        if joins and not is_first and spec.key is None:
            self._complaints.add(
                f"the input '{name}' needs a 'key' that joins it to the first input",
                where,
                "write key: column, or key: {its_column: column_of_the_first}",
            )
        key = next(iter(spec.key.items())) if spec.key else None
        return InputSource(name, spec.path, spec.query, spec.call, spec.args, key, spec.types, where, at=spec.at)

    def _complain(self, what: str, path: DataPath) -> None:
        self._complaints.add(what, self._positions.key(path))


def _has_includes(flow: FlowSpec) -> bool:
    """Return whether steps of other flows may be among those of a flow: few have any."""
    left: list[Any] = [flow.nodes, *flow.tables.values()]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            if "include" in one:
                return True
            left += one.values()
    return False


def _with_included_steps(
    flow: FlowSpec, base_dir: Path, positions: Positions, complaints: Complaints
) -> tuple[FlowSpec, Positions]:
    """Return a flow with the steps of other flows in place of its includes, and where they and all else stand."""
    # Few flows include steps.
    from sundog.flow.files.included import Including
    from sundog.flow.files.included_positions import IncludedPositions

    known = IncludedPositions(positions)
    including = Including(base_dir, known, complaints, flow.constants)
    nodes = including.nodes(flow.nodes, ("nodes",))
    tables = {
        name: {**table, "nodes": including.nodes(table["nodes"], ("tables", name, "nodes"))}
        if isinstance(table, dict) and isinstance(table.get("nodes"), dict)
        else table
        for name, table in flow.tables.items()
    }
    tools = {
        name: {**tool, "flow": including.flow_of_tool(name, tool["flow"], ("tools", name, "flow"))}
        if _is_flow(tool)
        else tool
        for name, tool in flow.tools.items()
    }
    sections = {"nodes": nodes, "tables": tables, "tools": tools, "constants": including.constants}
    return flow.model_copy(update=sections), known


def _is_flow(tool: Any) -> bool:
    return isinstance(tool, dict) and "flow" in tool


def _is_of_other_flow(table: Any) -> bool:
    return isinstance(table, dict) and isinstance(table.get("from"), dict)


def _are_whole(drafts: Iterable[NodeDraft]) -> bool:
    return all(draft.node is not None and _are_whole(draft.body) for draft in drafts)
