"""The published graphs as calls of one request, and the machines that all arms have.

Owns what is the same for every arm: eight workers that run PLACES calls of a model at once, each CALL_S long, and tools
that take as long as the graph says. Nothing here decides where a call runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from placed.graphs import CALL_S, PLACES, Graph

NUM_WORKERS = 8
UNLIMITED_PLACES = 10**6
"""The limit of a tool that is latency alone: Halo's templates sleep, and any number may sleep at once."""


@dataclass(frozen=True, slots=True)
class Machines:
    """`tool_places`: calls at once of all SQL steps together, and as many of all HTTP steps."""

    tool_places: int = UNLIMITED_PLACES
    num_workers: int = NUM_WORKERS


def calls_by_model(graph: Graph) -> Counter[str]:
    """Count the calls of one request, by model."""
    return Counter(step.kind for step in graph.steps if step.is_llm)


def most_per_s(graph: Graph, machines: Machines) -> float:
    """Return the requests a second that no arm exceeds which makes every LLM call: all workers are busy, and no model
    is ever loaded."""
    return machines.num_workers * PLACES / CALL_S / calls_by_model(graph).total()


def best_shares(graph: Graph, machines: Machines) -> dict[str, int]:
    """Return how many workers each model has if they stay: those with the highest rate; among equals, with the most
    for the models that are not the narrowest."""
    calls = calls_by_model(graph)
    splits = [dict(zip(calls, split, strict=True)) for split in _splits(machines.num_workers, len(calls))]
    return max(splits, key=lambda shares: sorted(share / calls[model] for model, share in shares.items()))


def shares_per_s(graph: Graph, shares: dict[str, int]) -> float:
    """Return the requests a second that these shares allow."""
    calls = calls_by_model(graph)
    return min(share * PLACES / CALL_S / calls[model] for model, share in shares.items())


def path_s(graph: Graph) -> float:
    """Return the seconds of one request that waits for nothing but its own calls."""
    ends_s: dict[str, float] = {}
    for step in graph.steps:
        ends_s[step.name] = graph.call_s(step) + max((ends_s[parent] for parent in step.parents), default=0.0)
    return max(ends_s.values())


def by_supersteps(graph: Graph) -> Graph:
    """Return the graph in which a step waits for all steps that are less deep, as in LangGraph, where one superstep
    ends before the next begins."""
    depths = graph.depths
    levels = [[name for name, depth in depths.items() if depth == level] for level in range(max(depths.values()) + 1)]
    steps = (
        replace(step, parents=tuple(levels[depths[step.name] - 1]) if depths[step.name] else ())
        for step in sorted(graph.steps, key=lambda one: depths[one.name])
    )
    return replace(graph, steps=tuple(steps))


def _splits(total: int, num_parts: int) -> Iterator[tuple[int, ...]]:
    if num_parts == 1:
        yield (total,)
        return
    for first in range(1, total - num_parts + 2):
        for rest in _splits(total - first, num_parts - 1):
            yield (first, *rest)
