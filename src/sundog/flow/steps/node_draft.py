"""The drafts of nodes and of tools: what is bound of them, and where they were written.

Owns the data alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sundog.flow.positions import DataPath
from sundog.flow.spec import NodeSpec
from sundog.ir.logical import ForEach, Loop, Node, Step
from sundog.ir.schemas.output_schema import schema_shape
from sundog.ir.schemas.shape import Anything, Shape
from sundog.ir.templates.template import ITEM, Template

_UNKNOWN = Anything()


@dataclass(frozen=True, slots=True)
class NodeDraft:
    """A node and where it was written."""

    name: str
    path: DataPath
    #: The key that says what the node does.
    operator: str = ""
    #: The data below that key.
    block: Any = None
    #: None where it is wrong: its name is known all the same.
    node: Node | None = None
    #: The shape of the node's value.
    shape: Shape = _UNKNOWN
    body: tuple[NodeDraft, ...] = ()
    #: The tools that an agent may use.
    tools: tuple[ToolDraft, ...] = ()
    #: The values in place of constants of a flow that is a tool; they read what the tool does.
    given: tuple[NodeDraft, ...] = ()
    #: The outputs of such a flow, as its user wrote them.
    outputs: tuple[tuple[str, Template], ...] = ()


@dataclass(frozen=True, slots=True)
class ToolDraft:
    """A tool of a flow, and where it was written."""

    description: str
    #: JSON text of the schema of its arguments.
    parameters: str
    draft: NodeDraft
    #: A step, an agent, or the steps of another flow.
    node: Step | Loop

    @property
    def name(self) -> str:
        return self.draft.name

    @property
    def args(self) -> Shape:
        return schema_shape(json.loads(self.parameters))


def each_of(spec: NodeSpec) -> ForEach | None:
    return None if spec.for_each is None else ForEach(spec.for_each, spec.as_ or ITEM)
