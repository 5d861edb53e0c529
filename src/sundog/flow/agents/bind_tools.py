"""The tools of a flow: written sections to steps, and what a model is told of them.

Owns what concerns one tool by itself. What its step may say is flow.nodes' affair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sundog.engines.tool_use import FINAL
from sundog.flow.agents.agent_spec import TOOL_KEYS, ToolSpec
from sundog.flow.complaints import Complaints
from sundog.flow.names import Names
from sundog.flow.nodes import NodeBinder
from sundog.flow.positions import DataPath, Positions
from sundog.flow.steps.node_draft import NodeDraft
from sundog.flow.validation import read
from sundog.ir.agents import ARGS
from sundog.ir.logical import Step
from sundog.ir.schemas.output_schema import schema_shape
from sundog.ir.schemas.shape import Shape

TURN = "turn"
"""Ends the name of the step that an agent's turns are."""
MAX_NAME = 64
_NO_MODIFIERS = ("when", "for_each", "as", "after")
_NO_TOOLS = {"agent": "another agent", "filter": "a filter", "loop": "a loop"}


@dataclass(frozen=True, slots=True)
class BoundTool:
    """A tool, and where it was written."""

    description: str
    #: JSON text of the schema of its arguments.
    parameters: str
    step: Step
    draft: NodeDraft

    @property
    def args(self) -> Shape:
        return schema_shape(json.loads(self.parameters))


class ToolBinder:
    """This class makes the tools of one flow. What is wrong goes to `complaints`, and a wrong tool is None."""

    def __init__(self, positions: Positions, complaints: Complaints, names: Names, nodes: NodeBinder) -> None:
        self._positions = positions
        self._complaints = complaints
        self._names = names
        self._nodes = nodes

    def bound(self, written: Mapping[str, Any]) -> dict[str, BoundTool | None]:
        """Return the tools by name, in the order written."""
        if written:
            self._names.give_variable(ARGS, self._positions.key(("tools",)))
        return {name: self._tool(name, data) for name, data in written.items()}

    def _tool(self, name: str, data: Any) -> BoundTool | None:
        path: DataPath = ("tools", name)
        self._check_name(name, path)
        spec = read(ToolSpec, data, path, self._positions, self._complaints)
        if not isinstance(data, dict):
            return None
        for key in _NO_MODIFIERS:
            if key in data:
                self._add(f"a tool cannot have '{key}': the model decides when it is used", (*path, key))
        for key, kind in _NO_TOOLS.items():
            if key in data:
                self._add(f"a tool is one step, and not {kind}", (*path, key))
                return None
        rest = {key: value for key, value in data.items() if key not in (*TOOL_KEYS, *_NO_MODIFIERS)}
        if rest.get("human") is True:
            rest["human"] = {"question": _question(data)}
        (draft,) = self._nodes.drafts({name: rest}, ("tools",))
        if spec is None or not isinstance(draft.node, Step):
            return None
        if draft.node.for_each is not None:
            self._add("a tool gives one answer, and no 'samples'", (*path, draft.operator))
            return None
        return BoundTool(spec.description, spec.parameters, draft.node, draft)

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
