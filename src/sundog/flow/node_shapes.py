"""The shapes of the values of a table's nodes.

Owns what a loop and a list of calls make of the shapes that operators tell. Never looks at a template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sundog.ir.alternatives import Alternatives
from sundog.ir.logical import Loop, Node, Step, Table, ValueNode
from sundog.ir.schemas.shape import Anything, ListOf, Record, Scalar, Shape
from sundog.operators.base import Operator


def shapes_of(table: Table, operators: Mapping[str, Operator]) -> dict[str, Shape]:
    """Return the shape of each node's value, by its name. `operators` holds an instance for each operator name."""
    return _shapes(table.nodes, operators)


def _shapes(nodes: Sequence[Node], operators: Mapping[str, Operator]) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for node in nodes:
        match node:
            case Step():
                shape = operators[node.operator].shape(node.spec)
            case Alternatives():
                shape = _shapes([node.first], operators)[node.first.name]
            case Loop():
                shape = Record((("turns", Scalar("int")), *_shapes(node.body, operators).items()))
            case ValueNode():
                shape = Anything() if node.template.is_expression else Scalar("str")
            case _:
                continue
        found[node.name] = ListOf(shape) if node.for_each is not None else shape
    return found
