"""The tools of a request, as chat writes them.

Owns the nested form of a tool and of a choice, and what a choice needs. Never reads a form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sundog.serve.wire.errors import wrong_request


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """The tools of a request, and how a model may choose among them."""

    tools: Sequence[dict[str, Any]]
    #: `auto`, `none` or `required`; None where the request does not say.
    mode: str | None = None
    #: The tool that has to be called.
    name: str | None = None
    #: None where the request does not say.
    has_parallel_calls: bool | None = None

    def fields(self) -> dict[str, Any]:
        """Return the fields of a chat request: none without tools, where a choice has no meaning. A refusal for a
        choice of a tool that is not offered."""
        names = [tool["function"]["name"] for tool in self.tools]
        if self.name is not None and self.name not in names:
            hint = f"offered are: {', '.join(names)}" if names else "no function is offered"
            raise wrong_request("tool_choice", f"it names the tool '{self.name:.80}', which is not offered", hint=hint)
        if not self.tools:
            if self.mode == "required":
                raise wrong_request("tool_choice", "it asks for a call, and no function is offered")
            return {}
        found: dict[str, Any] = {"tools": list(self.tools)}
        if self.name is not None:
            found["tool_choice"] = {"type": "function", "function": {"name": self.name}}
        elif self.mode is not None:
            found["tool_choice"] = self.mode
        if self.has_parallel_calls is not None:
            found["parallel_tool_calls"] = self.has_parallel_calls
        return found


def nested_tool(name: str, parameters: dict[str, Any] | None, **others: Any) -> dict[str, Any]:
    """Return a tool as chat writes it; of `others` those that are not None."""
    function: dict[str, Any] = {"name": name}
    function.update({key: value for key, value in others.items() if value is not None})
    function["parameters"] = parameters if parameters is not None else {"type": "object", "properties": {}}
    return {"type": "function", "function": function}
