"""The meaning of what a server says of its tools: whether a use of one is a read or an effect.

Owns that decision. Annotations are a server's own word, so they count only where the flow trusts the server; without
them a tool is an effect.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ToolAnnotationsTold:
    """The hints of a server on one tool; None for what it does not say."""

    is_read_only: bool | None = None
    is_idempotent: bool | None = None


@dataclass(frozen=True, slots=True)
class ToolReach:
    """The reach of one use of a tool."""

    #: It is claimed before it runs, never shared, never repeated by itself.
    is_effect: bool
    #: Equal uses of one run are one.
    is_shared: bool
    #: A phrase for explain.
    reason: str


def reach_of(told: ToolAnnotationsTold, *, effect: bool | None, trust: bool) -> ToolReach:
    """Return the reach of a tool. `effect`: what the flow says, which overrules; `trust`: the flow believes the
    server."""
    if effect is not None:
        return ToolReach(effect, not effect, f"effect: {str(effect).lower()}")
    if trust and told.is_read_only:
        return ToolReach(False, True, "the server says that it only reads")
    if trust and told.is_idempotent:
        return ToolReach(False, False, "the server says that repeating it changes nothing more")
    return ToolReach(True, False, "a tool is an effect unless the flow says otherwise")
