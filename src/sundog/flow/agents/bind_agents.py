"""An agent's written node -> an Agent of the plan: its turn, and a node for each of its tools.

Owns the rules of an agent by itself. What templates read is flow.references' affair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from sundog.engines.base import ENGINES
from sundog.engines.tool_use import ToolForm
from sundog.errors import suggest
from sundog.flow.agents.agent_spec import MADE_KEYS, TURN_KEYS, AgentSpec
from sundog.flow.agents.bind_tools import TURN, ToolBinder
from sundog.flow.agents.inner_names import names_in_loops, outer_names, with_prefix
from sundog.flow.complaints import Complaints
from sundog.flow.names import Names
from sundog.flow.node_shapes import agent_shape
from sundog.flow.nodes import NodeBinder
from sundog.flow.positions import DataPath, Positions
from sundog.flow.spec import NodeSpec
from sundog.flow.steps.node_draft import NodeDraft, ToolDraft, each_of
from sundog.flow.validation import read
from sundog.ir.agent_turn import AgentTurnSpec, OfferedTool
from sundog.ir.agents import ARGS, MAX_NESTED, Agent, AgentLimits, Tool, num_nested
from sundog.ir.logical import EngineBlock, ForEach, Step, steps_of
from sundog.ir.schemas.shape import ListOf, Record
from sundog.ir.templates.template import Template
from sundog.operators.base import OPERATORS

OWN_FIELDS = ("turns", "stopped", "messages")
"""Fields of an agent's value that `output` cannot have."""
MAX_STEPS = 10_000
"""The steps of one agent, with all that its tools have inside."""


class AgentBinder:
    """This class makes drafts of agents. `tools`: makes those of the flow; `sets`: the names of tools by that of their
    set."""

    def __init__(
        self,
        positions: Positions,
        complaints: Complaints,
        names: Names,
        nodes: NodeBinder,
        engines: Mapping[str, EngineBlock],
        tools: ToolBinder,
        sets: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._positions = positions
        self._complaints = complaints
        self._names = names
        self._nodes = nodes
        self._engines = engines
        self._tools = tools
        self._sets = sets

    def draft(self, name: str, spec: NodeSpec, path: DataPath) -> NodeDraft:
        """Return the draft of an agent; one without a node where it is wrong."""
        block, data = (*path, "agent"), spec.operators["agent"]
        nothing = NodeDraft(name, path)
        own, of_turn = self._split(data, block)
        agent = read(AgentSpec, own, block, self._positions, self._complaints)
        written = self._nodes.with_files(of_turn, block, AgentTurnSpec.allows_files)
        turn = None if written is None else read(AgentTurnSpec, written, block, self._positions, self._complaints)
        tools = None if agent is None else self._tools_of(agent, block)
        if agent is None or turn is None or tools is None or not self._is_well(agent, turn, block):
            return nothing
        offered = tuple(
            OfferedTool(name=tool.name, description=tool.description, parameters=tool.parameters) for tool in tools
        )
        turn = turn.model_copy(update={"offered": offered, "form": self._form(turn.engine)})
        if not self._nodes.passes_check(OPERATORS.get("agent")(Path()), turn, block):
            return nothing
        node = self._agent(name, spec, agent, turn, tools, path)
        shape = agent_shape(turn)
        return NodeDraft(name, path, "agent", data, node, ListOf(shape) if node.for_each else shape, tools=tools)

    def _agent(
        self,
        name: str,
        spec: NodeSpec,
        agent: AgentSpec,
        turn: AgentTurnSpec,
        tools: Sequence[ToolDraft],
        path: DataPath,
    ) -> Agent:
        where = self._positions.key(path)
        first = f"{name}__{TURN}"
        made = [with_prefix(tool.node, f"{name}__") for tool in tools]
        given = [first, *chain.from_iterable(map(outer_names, made))]
        if path[0] != "tools":
            # A tool that is no part of the plan yet leaves them free.
            given += chain.from_iterable(map(names_in_loops, made))
        for one in given:
            self._names.give(one, "step", where)
        calls = ForEach(Template(f"{{{{ {first}.calls }}}}"), ARGS)
        limits = {"timeout_s": spec.timeout, "retries": spec.retries, "max_retry_wait_s": spec.max_retry_wait}
        body = (
            Step(first, "agent", turn, share=spec.share, location=where, **limits),  # type: ignore[arg-type]  # by name
            *(replace(node, for_each=calls) for node in made),
        )
        return Agent(
            name,
            body,
            agent.max_turns,
            when=spec.when,
            for_each=each_of(spec),
            after=spec.after,
            location=where,
            tools=tuple(
                Tool(tool.name, tool.description, tool.parameters, node.name)
                for tool, node in zip(tools, made, strict=True)
            ),
            limits=_limits(agent, self._engines),
            stop_when=agent.stop_when,
            max_repeats=agent.max_repeats,
            has_parallel_tools=turn.parallel_tools,
        )

    def _split(self, data: Any, block: DataPath) -> tuple[Any, Any]:
        """Return the keys of the agent and those of its turns, which are read each by its own model."""
        if not isinstance(data, dict):
            return data, {}
        for key in MADE_KEYS:
            if key in data:
                self._add(f"unknown key '{key}'", (*block, key), suggest(key, (*TURN_KEYS, *AgentSpec.model_fields)))
        own = {key: value for key, value in data.items() if key in AgentSpec.model_fields}
        return own, {key: value for key, value in data.items() if key not in own and key not in MADE_KEYS}

    def _tools_of(self, agent: AgentSpec, block: DataPath) -> tuple[ToolDraft, ...] | None:
        """Return the agent's tools; None where one is wrong, after complaining."""
        found: dict[str, ToolDraft] = {}
        num_steps = 1
        is_well = True
        for index, written in enumerate(agent.tools):
            where = self._positions.value((*block, "tools", index))
            for name in self._sets.get(written, (written,)):
                if name not in self._tools:
                    known = [*self._tools, *self._sets]
                    hint = suggest(name, known) if known else "write it under the flow's `tools`"
                    self._complaints.add(f"there is no tool '{name}'", where, hint)
                elif name in found:
                    self._complaints.add(f"the tool '{name}' is named twice", where)
                elif (tool := self._tools.tool(name, where)) is not None:
                    found[name] = tool
                    num_steps += len(steps_of([tool.node]))
                    if num_nested(tool.node) < MAX_NESTED and num_steps <= MAX_STEPS:
                        continue
                    if num_steps <= MAX_STEPS:
                        self._tools.complain_of_depth(name, where)
                    else:
                        self._complaints.add(f"the agent and its tools have more than {MAX_STEPS:,} steps", where)
                is_well = False
        return tuple(found.values()) if is_well else None

    def _is_well(self, agent: AgentSpec, turn: AgentTurnSpec, block: DataPath) -> bool:
        if turn.engine not in self._engines:
            hint = suggest(turn.engine, self._engines)
            self._complaints.add(f"there is no engine '{turn.engine}'", self._positions.value((*block, "engine")), hint)
            return False
        if agent.bounds.usd is not None and not self._engines[turn.engine].options.get("price"):
            self._add("limits.usd needs the engine's price", (*block, "limits"), f"give '{turn.engine}' a `price`")
        if agent.stop_when is not None and not agent.stop_when.is_expression:
            hint = 'put all of it between {{ and }}, as in "{{ turns > 3 }}"'
            self._add("'stop_when' must be one expression", (*block, "stop_when"), hint)
        shape = None if turn.output is None else turn.output.shape
        names = [name for name, _ in shape.fields] if isinstance(shape, Record) else []
        for name in OWN_FIELDS:
            if name in names:
                self._add(f"an agent's output has no field '{name}': that is its own", (*block, "output"), None)
        return True

    def _form(self, engine: str) -> ToolForm:
        block = self._engines[engine]
        if block.kind not in ENGINES.names():
            # The block is wrong, and complained of.
            return "constrained"
        kind = ENGINES.get(block.kind)()
        return kind.tool_form(kind.Options.model_validate(dict(block.options)))

    def _add(self, what: str, path: DataPath, hint: str | None) -> None:
        self._complaints.add(what, self._positions.key(path), hint)


def _limits(agent: AgentSpec, engines: Mapping[str, EngineBlock]) -> AgentLimits:
    """Return its limits, with the prices of all engines: its tools may ask any."""
    bounds = agent.bounds
    if bounds.usd is None:
        return AgentLimits(bounds.tokens, bounds.seconds)
    prices = ((name, block.options.get("price")) for name, block in engines.items())
    per_token = tuple(
        (name, price["input_usd_per_mtok"] / 1e6, price["output_usd_per_mtok"] / 1e6) for name, price in prices if price
    )
    return AgentLimits(bounds.tokens, bounds.seconds, bounds.usd, per_token)
