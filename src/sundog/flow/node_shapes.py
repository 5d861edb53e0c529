"""The shapes of the values of a table's nodes.

Owns what a loop, an agent and a list of calls make of the shapes that operators tell. Never looks at a template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sundog.ir.agent_turn import AgentTurnSpec
from sundog.ir.agents import Agent
from sundog.ir.alternatives import Alternatives
from sundog.ir.logical import Loop, Node, Step, Table, ValueNode
from sundog.ir.schemas.shape import Anything, ListOf, Record, Scalar, Shape
from sundog.operators.base import Operator


def shapes_of(table: Table, operators: Mapping[str, Operator]) -> dict[str, Shape]:
    """Return the shape of each node's value, by its name. `operators` holds an instance for each operator name."""
    return _shapes(table.nodes, operators)


def agent_shape(turn: AgentTurnSpec) -> Record:
    """Return the shape of the value of an agent."""
    call = Record.of(id=Scalar("str"), name=Scalar("str"), arguments=Scalar("str"))
    message = Record.of(role=Scalar("str"), content=Scalar("str"), tool_calls=ListOf(call), tool_call_id=Scalar("str"))
    own = Record.of(text=Scalar("str"), turns=Scalar("int"), stopped=Scalar("str"), messages=ListOf(message))
    # An agent that does not come to an answer has none of the fields of `output`, though they are there as null.
    shape = None if turn.output is None else turn.output.shape
    return Record((*own.fields, *(shape.fields if isinstance(shape, Record) else ())))


def _shapes(nodes: Sequence[Node], operators: Mapping[str, Operator]) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for node in nodes:
        match node:
            case Step():
                shape = operators[node.operator].shape(node.spec)
            case Alternatives():
                shape = _shapes([node.first], operators)[node.first.name]
            case Agent():
                spec = node.turn.spec
                assert isinstance(spec, AgentTurnSpec)
                # Messages lack what they have no use for, as no column of a table does.
                shape = Record(
                    tuple((key, Anything() if key == "messages" else one) for key, one in agent_shape(spec).fields)
                )
            case Loop():
                shape = Record((("turns", Scalar("int")), *_shapes(node.body, operators).items()))
            case ValueNode():
                shape = Anything() if node.template.is_expression else Scalar("str")
            case _:
                continue
        found[node.name] = ListOf(shape) if node.for_each is not None else shape
    return found
