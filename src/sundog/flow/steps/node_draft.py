"""The draft of a node: what is bound of it, and where it was written.

Owns the data alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sundog.flow.positions import DataPath
from sundog.flow.spec import NodeSpec
from sundog.ir.logical import ForEach, Node
from sundog.ir.schemas.shape import Anything, Shape
from sundog.ir.templates.template import ITEM

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


def each_of(spec: NodeSpec) -> ForEach | None:
    return None if spec.for_each is None else ForEach(spec.for_each, spec.as_ or ITEM)
