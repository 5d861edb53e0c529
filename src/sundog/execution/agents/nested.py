"""A use of a tool that is an agent or the steps of another flow: what the model that used it is told.

Owns that value alone. Each turn, use and step in it is a call like any other, committed before anything follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sundog.errors import OperatorError
from sundog.ir.agent_turn import AgentTurnSpec
from sundog.ir.agents import Agent, AgentExec, ToolFlowExec

_ENDS_WELL = ("answer", "stop_when")


def told_value(node: AgentExec | ToolFlowExec, value: Mapping[str, Any]) -> Any:
    """Return what the model is told: of an agent the fields of its `output`, else its last text; of a flow its outputs,
    or its only one. OperatorError where an agent ended without an answer."""
    if isinstance(node, AgentExec):
        return _answer(node.agent, value)
    return next(iter(value.values())) if node.flow.has_one_output else value


def _answer(agent: Agent, value: Mapping[str, Any]) -> Any:
    spec = agent.turn.spec
    assert isinstance(spec, AgentTurnSpec)
    fields = {name: value[name] for name in spec.output.field_names} if spec.output is not None else {}
    if any(one is not None for one in fields.values()):
        return fields
    if not fields and value["stopped"] in _ENDS_WELL:
        return value["text"]
    said = f"; it said last: {value['text']}" if value["text"] else ""
    turns = f"{value['turns']} turn{'' if value['turns'] == 1 else 's'}"
    raise OperatorError(f"it ended without an answer ({value['stopped']}, after {turns}){said}")
