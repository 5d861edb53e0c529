"""Tools and agents as a user writes them.

Owns their keys and types. What a tool's step may say is its operator's affair.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from sundog.ir.agent_turn import AgentTurnSpec
from sundog.ir.schemas.tool_schema import parameters_schema
from sundog.ir.templates.template import Template

MAX_TURNS = 100
DEFAULT_TURNS = 10
TOOL_KEYS = ("description", "parameters")


class ToolSpec(BaseModel):
    """The words with which a model is told of a tool; every other key is that of a step."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    description: str = Field(min_length=1)
    #: Read from the short form of `output`, or `{json_schema: ...}`.
    parameters: Annotated[str, PlainValidator(parameters_schema)] = Field(default={}, validate_default=True)


class LimitsSpec(BaseModel):
    """The bounds of one conversation."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tokens: int | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    usd: float | None = Field(default=None, gt=0)


class AgentSpec(BaseModel):
    """The keys of an agent beside those of its turns."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
    tools: tuple[str, ...] = Field(min_length=1)
    max_turns: int = Field(default=DEFAULT_TURNS, ge=1, le=MAX_TURNS)
    limits: LimitsSpec | None = None
    stop_when: Template | None = None
    #: So many equal uses of a tool, one after the other, end the conversation.
    max_repeats: int = Field(default=3, ge=2)

    @property
    def bounds(self) -> LimitsSpec:
        return self.limits or LimitsSpec()


MADE_KEYS = ("offered", "form")
"""Keys of AgentTurnSpec that nobody writes."""
TURN_KEYS = tuple(name for name in AgentTurnSpec.model_fields if name not in MADE_KEYS)
