"""The tools that a server lists, as data: what a plan is made of, and what is kept with a run.

Owns the data and its JSON form. Never asks a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ServerTool:
    """A tool as its server describes it."""

    name: str
    description: str
    #: JSON text of the schema of its arguments.
    parameters: str
    #: The server's own word on what a use does; None where it says nothing.
    is_read_only: bool | None = None
    is_idempotent: bool | None = None


@dataclass(frozen=True, slots=True)
class ServerTools:
    """The tools of a server, by name."""

    tools: tuple[ServerTool, ...] = ()
    #: Names of tools that cannot be used, each with the reason as a phrase.
    left_out: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"tools": [asdict(tool) for tool in self.tools], "left_out": [list(one) for one in self.left_out]}

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> ServerTools:
        """Read what `to_dict` wrote."""
        tools = tuple(ServerTool(**tool) for tool in written["tools"])
        return cls(tools, tuple((name, reason) for name, reason in written["left_out"]))


def difference(before: ServerTools, now: ServerTools) -> str:
    """Return what has changed from one list to another, as a phrase; empty where nothing has."""
    old, new = ({tool.name: tool for tool in one.tools} for one in (before, now))
    parts = [
        ("new", [name for name in new if name not in old]),
        ("gone", [name for name in old if name not in new]),
        ("changed", [name for name in old if name in new and old[name] != new[name]]),
    ]
    return "; ".join(f"{word}: {', '.join(names)}" for word, names in parts if names)
