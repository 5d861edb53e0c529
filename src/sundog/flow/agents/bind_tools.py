"""The tools of a flow: written sections to nodes, and what a model is told of them.

Owns what concerns one tool by itself, and that tools which use others come to an end. What a tool's step may say is
flow.nodes' affair, and an agent's that of flow.agents.bind_agents.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sundog.engines.tool_use import FINAL
from sundog.errors import Location
from sundog.flow.agents.agent_spec import TOOL_KEYS, ToolSpec
from sundog.flow.agents.bind_flows import FLOW, FlowToolBinder
from sundog.flow.complaints import Complaints
from sundog.flow.names import Names
from sundog.flow.nodes import NodeBinder
from sundog.flow.positions import DataPath, Positions
from sundog.flow.steps.node_draft import NodeDraft, ToolDraft
from sundog.flow.validation import read
from sundog.ir.agents import ARGS, MAX_NESTED, Agent, ToolFlow
from sundog.ir.logical import Step

TURN = "turn"
"""Ends the name of the step that an agent's turns are."""
MAX_NAME = 64
_NO_MODIFIERS = ("when", "for_each", "as", "after")
_NO_TOOLS = {"filter": "a filter", "loop": "a loop", "require": "a requirement", "value": "a value"}
_NO_STAND_INS = {
    "on_error": "a tool has no 'on_error': the model is told of a failure",
    "escalate_when": "a tool has no 'escalate_when': it gives one answer",
}
MakeNodeBinder = Callable[[Names], NodeBinder]
"""Gives what binds nodes whose names are those."""


class ToolBinder:
    """This class makes the tools of one flow, each when it is first asked for. What is wrong goes to `complaints`, and
    a wrong tool is None."""

    def __init__(
        self,
        positions: Positions,
        complaints: Complaints,
        names: Names,
        binder_with: MakeNodeBinder,
        written: Mapping[str, Any],
        constants: Iterable[str],
    ) -> None:
        """`constants`: the names of those of the flow."""
        self._positions = positions
        self._complaints = complaints
        self._names = names
        self._binder_with = binder_with
        self._written = written
        self._constants = tuple(constants)
        self._made: dict[str, ToolDraft | None] = {}
        #: The tools that are being made, each for the one before it.
        self._open: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return iter(self._written)

    def bind_all(self) -> None:
        """Make all tools, those too that no agent may use."""
        if self._written:
            self._names.give_variable(ARGS, self._positions.key(("tools",)))
        for name in self._written:
            self.tool(name, self._positions.key(("tools", name)))

    def tool(self, name: str, where: Location) -> ToolDraft | None:
        """Return the tool `name`, which is asked for at `where`; None for a wrong one, after complaining."""
        if name in self._made:
            return self._made[name]
        if name in self._open:
            circle = " -> ".join((*self._open[self._open.index(name) :], name))
            hint = "take one of them out of the other's 'tools'"
            self._complaints.add(f"tools use each other in a circle: {circle}", where, hint)
            return None
        if len(self._open) >= MAX_NESTED:
            self.complain_of_depth(name, where)
            return None
        self._open.append(name)
        self._made[name] = self._tool(name, self._written[name])
        self._open.pop()
        return self._made[name]

    def complain_of_depth(self, name: str, where: Location) -> None:
        what = f"with the tool '{name}' more than {MAX_NESTED} agents and flows stand one inside the other"
        self._complaints.add(what, where, "let one of them do the other's part itself")

    def _tool(self, name: str, data: Any) -> ToolDraft | None:
        path: DataPath = ("tools", name)
        self._check_name(name, path)
        spec = read(ToolSpec, data, path, self._positions, self._complaints)
        if not isinstance(data, dict):
            return None
        for key in _NO_MODIFIERS:
            if key in data:
                self._add(f"a tool cannot have '{key}': the model decides when it is used", (*path, key))
        for key, what in _NO_STAND_INS.items():
            if key in data:
                self._add(what, (*path, key))
        for key, kind in _NO_TOOLS.items():
            if key in data:
                self._add(f"a tool is one step, an agent or a flow, and not {kind}", (*path, key))
                return None
        left_out = (*TOOL_KEYS, *_NO_MODIFIERS, *_NO_STAND_INS)
        draft = self._draft(name, {key: value for key, value in data.items() if key not in left_out}, data)
        if spec is None or not isinstance(draft.node, Step | Agent | ToolFlow):
            return None
        if draft.node.for_each is not None:
            self._add("a tool gives one answer, and no 'samples'", (*path, draft.operator))
            return None
        return ToolDraft(spec.description, spec.parameters, draft, draft.node)

    def _draft(self, name: str, rest: dict[str, Any], data: Mapping[str, Any]) -> NodeDraft:
        if FLOW in rest:
            self._names.give(name, "step", self._positions.key(("tools", name)))
            flows = FlowToolBinder(self._positions, self._complaints, self._binder_with, self._constants)
            return flows.draft(name, rest)
        if rest.get("human") is True:
            rest["human"] = {"question": _question(data)}
        (draft,) = self._binder_with(self._names).drafts({name: rest}, ("tools",))
        return draft

    def _check_name(self, name: str, path: DataPath) -> None:
        if name in (FINAL, TURN):
            self._add(f"a tool cannot be called '{name}': agents have another meaning for it", path)
        elif not re.fullmatch(r"\w{1,64}", name, re.ASCII):
            self._add(f"'{name}' cannot name a tool: models take up to {MAX_NAME} letters, digits and _", path)

    def _add(self, what: str, path: DataPath) -> None:
        self._complaints.add(what, self._positions.key(path))


def _question(tool: Mapping[str, Any]) -> str:
    """Return the template of what a person is asked: the argument `question`, where the tool has it, else all."""
    parameters = tool.get("parameters")
    has_question = isinstance(parameters, dict) and "question" in parameters
    return "{{ args.question }}" if has_question else "{{ args | tojson }}"
