"""Agents in the plan: a model that is asked turn after turn, and the tools that it may use in between.

Owns the data. An agent is a loop whose body is one turn and the steps of its tools, so whatever is known of loops holds
for it: a turn is a call of the step `turn`, and the uses of a tool are the elements of its step's `for_each`. How many
turns there are and which tools are used, the model decides; runtime.agents asks it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sundog.ir.logical import Loop, Step
from sundog.ir.physical import CallExec, LoopExec
from sundog.ir.templates.template import Template

ARGS = "args"
"""The name by which a tool's templates read the arguments of one use."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of an agent: as the model is told of it, and the step that each use runs."""

    name: str
    description: str
    #: JSON text of the schema of its arguments, an object.
    parameters: str
    #: The name of the step among those of the agent.
    step: str


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """The bounds of one conversation beside its turns; None for none."""

    #: Tokens of all prompts and answers together.
    tokens: int | None = None
    #: Seconds of all its calls together, as they were when they were computed.
    seconds: float | None = None
    #: The price of the engine stands below.
    usd: float | None = None
    usd_per_prompt_token: float = 0.0
    usd_per_output_token: float = 0.0


NO_LIMITS = AgentLimits()


@dataclass(frozen=True, slots=True)
class Agent(Loop):
    """A model with tools. Its body is the turn, then the steps of the tools; `until` is not used.

    Its value: {"text", the fields of `output`, "turns", "stopped", "messages"}.
    """

    tools: tuple[Tool, ...] = ()
    limits: AgentLimits = NO_LIMITS
    #: It is looked at after each turn.
    stop_when: Template | None = None
    #: So many equal uses of a tool, one after the other, end the conversation.
    max_repeats: int = 3
    #: The uses of one turn run at once.
    has_parallel_tools: bool = True

    @property
    def conditions(self) -> tuple[Template | None, ...]:
        return self.stop_when, self.when

    @property
    def turn(self) -> Step:
        step = self.body[0]
        assert isinstance(step, Step)
        return step


@dataclass(frozen=True, slots=True)
class AgentExec(LoopExec):
    """An agent as it is executed."""

    @property
    def agent(self) -> Agent:
        assert isinstance(self.loop, Agent)
        return self.loop

    @property
    def turn(self) -> CallExec:
        return self.call(self.agent.turn.name)

    def call(self, step: str) -> CallExec:
        """Return the turn, or the step of a tool."""
        node = next(node for node in self.body if node.name == step)
        assert isinstance(node, CallExec)
        return node
