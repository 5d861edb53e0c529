"""A tool that is another flow -> a node with that flow's steps, which run once for the arguments of each use.

Owns the names inside it: the steps read the arguments as their row, and no step of this flow. Which file it is and what
stands in it, flow.files.included has read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sundog.flow.agents.inner_names import called_anew, change_outer, outer_names, variables_of
from sundog.flow.complaints import Complaints
from sundog.flow.names import Names
from sundog.flow.nodes import NodeBinder
from sundog.flow.positions import DataPath, Positions
from sundog.flow.secret_check import check_no_secrets
from sundog.flow.spec import OutputSpec
from sundog.flow.steps.node_draft import NodeDraft
from sundog.flow.validation import read
from sundog.ir.agents import ARGS, ToolFlow
from sundog.ir.logical import Node
from sundog.ir.templates.substitute import rename
from sundog.ir.templates.template import ITEM, ROW, SAMPLE, Template

FLOW = "flow"
"""The key of a tool that is another flow."""


class FlowToolBinder:
    """This class makes drafts of tools that are flows. `constants`: the names of those of the flow."""

    def __init__(
        self,
        positions: Positions,
        complaints: Complaints,
        binder_with: Callable[[Names], NodeBinder],
        constants: Sequence[str],
    ) -> None:
        self._positions = positions
        self._complaints = complaints
        self._binder_with = binder_with
        self._constants = constants

    def draft(self, name: str, written: Mapping[str, Any]) -> NodeDraft:
        """Return the draft of the tool `name`; one without a node where it is wrong."""
        path: DataPath = ("tools", name)
        block = (*path, FLOW)
        for key in written:
            if key != FLOW:
                hint = "each of its steps has its own"
                self._complaints.add(f"'{key}' cannot stand beside 'flow'", self._positions.key((*path, key)), hint)
        data = written[FLOW]
        binder = self._binder_with(self._names(block))
        given = binder.drafts(data["given"], (*block, "given"))
        steps = binder.drafts(data["nodes"], (*block, "nodes"))
        read_outputs = [
            (key, read(OutputSpec, text, (*block, "outputs", key), self._positions, self._complaints))
            for key, text in data["outputs"].items()
        ]
        check_no_secrets(data["outputs"], (*block, "outputs"), self._positions, self._complaints)
        outputs = tuple((key, output.root) for key, output in read_outputs if output is not None)
        filters = [draft for draft in steps if draft.operator == "filter"]
        for draft in filters:
            hint = "a 'require' says why, and the model is told"
            where = self._positions.key(draft.path)
            self._complaints.add("a flow that is a tool has no filter: each use has an answer", where, hint)
        is_wrong = any(draft.node is None for draft in (*given, *steps)) or len(outputs) < len(read_outputs)
        if is_wrong or filters:
            return NodeDraft(name, path, FLOW)
        node = self._node(name, data, given, steps, outputs)
        return NodeDraft(name, path, FLOW, node=node, body=steps, given=given, outputs=outputs)

    def _names(self, block: DataPath) -> Names:
        """Return the names that the steps may not have: their templates read constants of this flow too."""
        names = Names(self._complaints)
        for constant in self._constants:
            names.give(constant, "constant", self._positions.key(("constants", constant)))
        names.give(ARGS, "tool's argument", self._positions.key(block))
        return names

    def _node(
        self,
        name: str,
        data: Mapping[str, Any],
        given: Sequence[NodeDraft],
        steps: Sequence[NodeDraft],
        outputs: Sequence[tuple[str, Template]],
    ) -> ToolFlow:
        nodes = [draft.node for draft in (*given, *steps) if draft.node is not None]
        own = {old: f"{name}__{old}" for node in nodes for old in outer_names(node)}
        variables = {
            old: f"{name}__{old}" for node in nodes for old in variables_of(node) if old not in (ITEM, SAMPLE, ARGS)
        }
        inside = {**own, **variables, ROW: ARGS}

        def renamed(draft: NodeDraft, names: Mapping[str, str]) -> Node:
            assert draft.node is not None
            change, of_tools = self._renaming(draft.path, names), self._renaming(draft.path, own)
            return called_anew(change_outer(draft.node, change, of_tools), {**own, **variables})

        path: DataPath = ("tools", name)
        return ToolFlow(
            name,
            (*(renamed(draft, own) for draft in given), *(renamed(draft, inside) for draft in steps)),
            1,
            location=self._positions.key(path),
            outputs=tuple((key, self._renaming((*path, FLOW, "outputs", key), inside)(one)) for key, one in outputs),
            has_one_output=data["has_one_output"],
            file=data["file"],
        )

    def _renaming(self, path: DataPath, names: Mapping[str, str]) -> Callable[[Template], Template]:
        """Return what renames a template at `path`, complaining of one where that cannot be done for certain."""

        def renamed(template: Template) -> Template:
            found = rename(template, names)
            if found is None:
                what = "the names in a template of this step cannot be changed for certain"
                hint = "give a name that it binds itself, as `for` and `set` do, another one"
                self._complaints.add(what, self._positions.key(path), hint)
            return found or template

        return renamed
