"""The abilities of an engine that decide how a chat becomes a request to it."""

from __future__ import annotations

from dataclasses import dataclass

from sundog.engines.message_parts import PartKind
from sundog.engines.tool_use import ToolForm
from sundog.serve.wire.chat.schemas import SchemaCheck


@dataclass(frozen=True, slots=True)
class ChatAbilities:
    """The abilities of one engine, as its kind tells them of its block."""

    tool_form: ToolForm = "constrained"
    #: The parts that it takes beside text.
    part_kinds: frozenset[PartKind] = frozenset()
    #: None where it takes any schema.
    check_schema: SchemaCheck | None = None
    #: A request without a temperature leaves it to the engine; otherwise it is 1, as OpenAI's interface has it.
    has_own_sampling: bool = False

    @property
    def default_temperature(self) -> float | None:
        return None if self.has_own_sampling else 1.0
