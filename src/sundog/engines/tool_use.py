"""Tools as engines are asked to offer them, and the calls that models make of them.

Owns the data. Never runs a tool, and never judges what it is called with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ToolForm = Literal["native", "constrained"]
"""The way in which a model calls tools: by the server's own protocol, or by an answer of a form that names one."""
FINAL = "final"
"""In the place of a tool's name: the answer ends the conversation. No tool may have this name."""
ToolChoice = Literal["auto", "required", "none"]


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """A tool as a model is told of it."""

    name: str
    description: str
    #: JSON text of the schema of its arguments, an object.
    parameters: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The call of one tool, as the model wrote it."""

    #: Empty where the server gave none.
    id: str
    name: str
    #: JSON text, which may be none that can be read.
    arguments: str
