"""A workload as plain Python: one coroutine for each step, which reads the values of its parameters' names.

Owns the form of the baselines' workloads. Every arm but sundog's runs these same coroutines; none of them knows when.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Any, Protocol

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]
Step = Callable[..., Awaitable[Any]]


class Calls(Protocol):
    """The calls that a step may ask for; each arm decides how they are done."""

    async def llm(self, model: str, system: str, prompt: str, max_tokens: int) -> str:
        """The greedy answer of model a, b or c."""
        ...

    async def sql(self, query: str, **params: Any) -> Rows:
        """The rows of a read-only query."""
        ...

    async def http(self, path: str, **params: Any) -> Any:
        """The JSON of a GET."""
        ...


class Graph:
    """The steps of one workload by name; `output` names the step whose value is the answer."""

    def __init__(self, *steps: Step, output: str) -> None:
        self.steps = {step.__name__: step for step in steps}
        self.output = output

    @cached_property
    def reads(self) -> dict[str, tuple[str, ...]]:
        """The steps that each step reads."""
        return {
            name: tuple(one for one in inspect.signature(step).parameters if one in self.steps)
            for name, step in self.steps.items()
        }

    @cached_property
    def order(self) -> tuple[str, ...]:
        """A topological order; steps as written where they do not wait for each other."""
        return tuple(TopologicalSorter(self.reads).static_order())

    async def run(self, name: str, calls: Calls, row: Row, values: Mapping[str, Any]) -> Any:
        """The value of one step of one row."""
        given: dict[str, Any] = {"calls": calls, "row": row, **values}
        step = self.steps[name]
        return await step(**{parameter: given[parameter] for parameter in inspect.signature(step).parameters})
