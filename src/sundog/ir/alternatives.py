"""A step that another may stand in for: another engine that is asked where the first one failed, or where its answer is
not good enough, or a value in place of a failed call.

Owns the data. Such a step is a loop of one turn whose body is the first step and, where there is one, the second: what
is known of loops holds for it. Each of the two is a call like any other; execution.alternatives decides which are
made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from sundog.ir.logical import Loop, Node, Step
from sundog.ir.physical import CallExec, LoopExec
from sundog.ir.templates.template import Template

VALUE = "value"
"""Ends the name under which values in place of failed calls are counted."""


@dataclass(frozen=True, slots=True)
class Alternatives(Loop):
    """A step and what stands in for it. Its value is the one that counts: the second's where that ran, else the
    first's, or `otherwise`. `until` is not used, and there is one turn."""

    is_plain: ClassVar[bool] = False

    #: The second runs, or `otherwise` is the value, where the first failed; None where the second's `when` decides.
    on_error: Literal["engine", "value"] | None = None
    #: The value in place of a failed call: JSON types with templates in it.
    otherwise: Any = None
    #: The fields that `otherwise` must have.
    fields: tuple[str, ...] = ()

    @property
    def conditions(self) -> tuple[Template | None, ...]:
        return self.otherwise, self.when

    @property
    def first(self) -> Step:
        return _step(self.body[0])

    @property
    def second(self) -> Step | None:
        return _step(self.body[1]) if len(self.body) > 1 else None

    @property
    def counted_as(self) -> str:
        """The name under which the answers of what stands in are counted."""
        return f"{self.name}__{VALUE}" if self.second is None else self.second.name

    @property
    def told(self) -> str:
        """A phrase for what stands in, and when."""
        if self.on_error == "value":
            return "by the value of on_error"
        second = self.second
        if second is None:
            return "no second step"
        engine = getattr(second.spec, "engine", second.name)
        return f"by {engine} on an error" if self.on_error else f"by {engine} where escalated"


@dataclass(frozen=True, slots=True)
class AlternativesExec(LoopExec):
    """A step with what stands in for it, as it is executed."""

    @property
    def alternatives(self) -> Alternatives:
        assert isinstance(self.loop, Alternatives)
        return self.loop

    @property
    def first(self) -> CallExec:
        return _call(self.body[0])

    @property
    def second(self) -> CallExec | None:
        return _call(self.body[1]) if len(self.body) > 1 else None


def alternatives_of(nodes: Sequence[Node]) -> Iterator[Alternatives]:
    """Yield the steps that another may stand in for, those inside loops too."""
    for node in nodes:
        if isinstance(node, Alternatives):
            yield node
        elif isinstance(node, Loop):
            yield from alternatives_of(node.body)


def _step(node: object) -> Step:
    assert isinstance(node, Step)
    return node


def _call(node: object) -> CallExec:
    assert isinstance(node, CallExec)
    return node
