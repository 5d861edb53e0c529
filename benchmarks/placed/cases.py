"""The cases: a graph, its workers, its rows. Owns their names and which there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from placed.graphs import PLACES, Graph, published_graphs, random_graph

WORKERS = (2, 3, 4, 8)
ROWS = (50, 500, 2000)
NUM_RANDOM = 100
RANDOM_ROWS = (50, 100, 200)
LARGE = (40, 100, 300)


@dataclass(frozen=True, slots=True)
class Case:
    """`tool_places`: of the database, and as many of the HTTP host. `max_rows_in_flight`: None takes the planner's."""

    graph: Graph
    num_workers: int
    num_rows: int
    tool_places: int = PLACES
    max_rows_in_flight: int | None = None

    @property
    def name(self) -> str:
        return f"{self.graph.name}/{self.num_workers}/{self.num_rows}"


def published_cases() -> Iterator[Case]:
    """w1/2/50 to w6/8/2000."""
    for graph in published_graphs().values():
        for num_workers in WORKERS:
            for num_rows in ROWS:
                yield Case(graph, num_workers, num_rows)


def random_cases() -> Iterator[Case]:
    """Named for their seeds, r0 to r99."""
    for seed in range(NUM_RANDOM):
        chance = Random(seed)
        graph = random_graph(chance, f"r{seed}", chance.randint(4, 12))
        yield Case(graph, chance.choice(WORKERS), chance.choice(RANDOM_ROWS))


def large_cases() -> Iterator[Case]:
    """As many LLM steps as in LARGE, to be planned only: l40/4/500 to l300/8/500."""
    for num_llm in LARGE:
        for num_workers in (4, 8):
            yield Case(random_graph(Random(num_llm), f"l{num_llm}", num_llm), num_workers, 500)
