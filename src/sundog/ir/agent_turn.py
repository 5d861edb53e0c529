"""The question to an engine in each turn of an agent, as the plan has it.

Owns the data only. The operator `agent` makes calls of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, model_validator

from sundog.ir.conversations.written import Messages, check_prompt, conversation_of, kinds_of_parts
from sundog.ir.logical import OperatorSpec
from sundog.ir.schemas.output_schema import OutputSchema
from sundog.ir.templates.template import Template


class OfferedTool(BaseModel):
    """A tool as a model is told of it."""

    model_config = ConfigDict(frozen=True)
    name: str
    description: str
    #: JSON text of a schema.
    parameters: str


class AgentTurnSpec(OperatorSpec):
    """The turns of one agent."""

    allows_files: ClassVar[frozenset[str]] = frozenset({"prompt", "system", "messages"})
    engine: str
    prompt: Template | None = None
    messages: Messages = ()
    system: Template | None = None
    #: None leaves the limit to the engine.
    max_tokens: int | None = Field(default=None, ge=1)
    #: 0 is greedy, None the engine's own.
    temperature: float | None = Field(default=0.0, ge=0)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    #: The form of the last answer, as ir.schemas.output_schema says.
    output: Annotated[OutputSchema, PlainValidator(OutputSchema.of)] | None = None
    tool_choice: Literal["auto", "required"] = "auto"
    parallel_tools: bool = True
    #: Filled in from the agent's tools and its engine.
    offered: tuple[OfferedTool, ...] = ()
    form: Literal["native", "constrained"] = "constrained"

    @model_validator(mode="after")
    def _one_prompt(self) -> AgentTurnSpec:
        check_prompt("an agent", self.prompt, self.system, self.messages)
        if kinds_of_parts(self.messages):
            raise ValueError("an agent is asked in text: let an llm step before it read images and files")
        return self

    def conversation(self) -> Iterator[tuple[str, Template]]:
        """Yield what is asked first, in order."""
        return conversation_of(self.prompt, self.system, self.messages)
