"""A step that another may stand in for, with one row: which calls are made, and whose value counts.

Owns this choice. A failure that something stands in for is committed as a result is, since what follows rests on it: a
run that goes on finds it again. Never runs a call itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from sundog.errors import CallError, OperatorError
from sundog.ir.alternatives import AlternativesExec
from sundog.ir.physical import CallExec
from sundog.ir.templates.environment import SKIPPED
from sundog.ir.templates.render import Scope
from sundog.operators.arguments import render_argument

RunStep = Callable[[CallExec, dict[str, Any], str, int], Awaitable[Any]]
"""Runs a step under a prefix and at a depth: its value, SKIPPED where its `when` does not hold."""
TryStep = Callable[[CallExec, Scope, str], Awaitable[Any]]
"""Makes a step's one call under a path: its value, or its failure, committed."""
CountStandIn = Callable[[str], None]
"""Counts one answer of what stands in, under a name."""


class StandInObserver(Protocol):
    """Hears for how many rows something stands in."""

    def judged(self, node: str, holds: bool) -> None: ...


async def alternative_value(
    node: AlternativesExec,
    scope: Scope,
    path: str,
    run_step: RunStep,
    try_step: TryStep,
    count: CountStandIn,
    observer: StandInObserver,
) -> Any:
    """Return the value that counts; what the steps raise where none does."""
    inner, prefix, second = dict(scope), f"{path}.1/", node.second
    if node.alternatives.on_error is None:
        inner[node.first.name] = await run_step(node.first, inner, prefix, 0)
        found = SKIPPED if second is None else await run_step(second, inner, prefix, 1)
        return inner[node.first.name] if found is SKIPPED else found
    answer = await try_step(node.first, inner, prefix + node.first.name)
    is_failed = isinstance(answer, CallError)
    observer.judged(node.alternatives.counted_as, is_failed)
    if not is_failed:
        return answer
    if second is not None:
        return await run_step(second, inner, prefix, 1)
    value = _otherwise(node, scope)
    count(node.alternatives.counted_as)
    return value


def _otherwise(node: AlternativesExec, scope: Scope) -> Any:
    """Return the value in place of a failed call; OperatorError where it lacks what readers of the step read."""
    value = render_argument(node.alternatives.otherwise, scope)
    for key in node.alternatives.fields:
        if not isinstance(value, dict) or key not in value:
            raise OperatorError(
                f"on_error gives no '{key}', which the step's value has",
                hint=f"let its value be a mapping with {', '.join(node.alternatives.fields)}",
            )
    return value
