"""Agents in the plan: a model that is asked turn after turn, and the tools that it may use in between.

Owns the data. An agent is a loop whose body is one turn and a node for each of its tools: a step, another agent, or the
steps of another flow. So whatever is known of loops holds for it: a turn is a call of the step `turn`, and the uses of
a tool are the elements of its node's `for_each`. How many turns there are and which tools are used, the model decides;
execution.agents asks it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from sundog.ir.logical import Loop, Node, Step
from sundog.ir.physical import CallExec, LoopExec, calls_of
from sundog.ir.templates.template import Template

ARGS = "args"
"""The name by which a tool's templates read the arguments of one use."""
MAX_NESTED = 4
"""So many agents and flows may stand one inside the other, as tools."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of an agent: as the model is told of it, and the node that each use runs."""

    name: str
    description: str
    #: JSON text of the schema of its arguments, an object.
    parameters: str
    #: The name of the node in the agent's body.
    step: str


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """The bounds of one conversation beside its turns; None for none."""

    #: Tokens of all prompts and answers together, those of models that its tools ask too.
    tokens: int | None = None
    #: Seconds of all its calls together, as they were when they were computed.
    seconds: float | None = None
    usd: float | None = None
    #: With `usd`, the price of a token of a prompt and of an answer, by the name of each engine that has one.
    prices: tuple[tuple[str, float, float], ...] = ()


NO_LIMITS = AgentLimits()


@dataclass(frozen=True, slots=True)
class Agent(Loop):
    """A model with tools. Its body is the turn, then the nodes of the tools; `until` is not used.

    Its value: {"text", the fields of `output`, "turns", "stopped", "messages"}.
    """

    is_plain: ClassVar[bool] = False

    tools: tuple[Tool, ...] = ()
    limits: AgentLimits = NO_LIMITS
    #: It is looked at after each turn.
    stop_when: Template | None = None
    #: So many equal uses of a tool, one after the other, end the conversation.
    max_repeats: int = 3
    #: The uses of one turn run at once.
    has_parallel_tools: bool = True

    @property
    def counted_wrong(self) -> str:
        """The name under which uses of tools are counted that could not be run. No step can have it."""
        return f"{self.name}/wrong"

    @property
    def counted_failed(self) -> str:
        """The name under which uses of tools are counted that failed."""
        return f"{self.name}/failed"

    @property
    def conditions(self) -> tuple[Template | None, ...]:
        return self.stop_when, self.when

    @property
    def turn(self) -> Step:
        step = self.body[0]
        assert isinstance(step, Step)
        return step


@dataclass(frozen=True, slots=True)
class ToolFlow(Loop):
    """The steps of another flow, which each use of a tool runs once for the arguments as a row. `until` is not used.

    Its value, as the model reads it: the outputs by name, or the value of the one that the tool names.
    """

    is_plain: ClassVar[bool] = False

    #: In the order of the other flow; only one where the tool names it.
    outputs: tuple[tuple[str, Template], ...] = ()
    #: The value is that of the only output.
    has_one_output: bool = False
    #: The other flow's file.
    file: str = field(default="", compare=False)

    @property
    def conditions(self) -> tuple[Template | None, ...]:
        return (*(template for _, template in self.outputs), self.when)


def num_nested(node: Node) -> int:
    """Return how many agents and flows stand one inside the other in a node, itself counted."""
    if not isinstance(node, Loop):
        return 0
    inside = max((num_nested(inner) for inner in node.body), default=0)
    return inside + isinstance(node, Agent | ToolFlow)


@dataclass(frozen=True, slots=True)
class AgentExec(LoopExec):
    """An agent as it is executed."""

    @property
    def agent(self) -> Agent:
        assert isinstance(self.loop, Agent)
        return self.loop

    @property
    def turn(self) -> CallExec:
        turn = self.node(self.agent.turn.name)
        assert isinstance(turn, CallExec)
        return turn

    def node(self, name: str) -> UsedExec:
        """Return the turn, or the node of a tool."""
        node = next(node for node in self.body if node.name == name)
        assert isinstance(node, CallExec | AgentExec | ToolFlowExec)
        return node


@dataclass(frozen=True, slots=True)
class ToolFlowExec(LoopExec):
    """The steps of another flow as a use of a tool executes them."""

    @property
    def flow(self) -> ToolFlow:
        assert isinstance(self.loop, ToolFlow)
        return self.loop


UsedExec = CallExec | AgentExec | ToolFlowExec
"""A use of a tool runs one of these."""


def has_effects(node: UsedExec) -> bool:
    """Return whether a use of a tool may change the outside world."""
    return any(call.is_effect for call in calls_of((node,)))


def agents_of(nodes: Sequence[Node]) -> Iterator[Agent]:
    """Yield the agents, those inside loops too."""
    for node in nodes:
        if isinstance(node, Agent):
            yield node
        if isinstance(node, Loop):
            yield from agents_of(node.body)
