"""Graphs of steps to be placed on workers: the six published ones, and random ones.

Owns the graphs and Halo's constants for their calls. Nothing is known of prompts: a call is as long as its kind says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from ruamel.yaml import YAML

PUBLISHED = Path(__file__).with_name("published.yaml")
MODEL_SIZES_B: Mapping[str, int] = {"q14": 14, "o20": 20, "q32": 32, "q8": 8}
LOAD_S_PER_B = 0.75
PLACES = 32
"""How many calls a worker runs at once; as many do the database and the HTTP host."""
ROW_S = 0.15
CALL_S = ROW_S * PLACES
"""A worker takes ROW_S for each row of an LLM step."""
SQL_S = 0.05
TOOLS = ("sql", "http", "py")


@dataclass(frozen=True, slots=True)
class GraphStep:
    """`kind`: a model, or one of TOOLS."""

    name: str
    kind: str
    parents: tuple[str, ...]

    @property
    def is_llm(self) -> bool:
        return self.kind in MODEL_SIZES_B


@dataclass(frozen=True, slots=True)
class Graph:
    """`steps` in topological order. `http_s`: the length of a request."""

    name: str
    steps: tuple[GraphStep, ...]
    http_s: float

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(model for model in MODEL_SIZES_B if any(step.kind == model for step in self.steps))

    @property
    def ends(self) -> tuple[str, ...]:
        """The steps that no other reads."""
        read = {parent for step in self.steps for parent in step.parents}
        return tuple(step.name for step in self.steps if step.name not in read)

    @property
    def depths(self) -> dict[str, int]:
        """By step, how many steps the longest chain before it has."""
        found: dict[str, int] = {}
        for step in self.steps:
            found[step.name] = max((found[parent] + 1 for parent in step.parents), default=0)
        return found

    def call_s(self, step: GraphStep) -> float:
        return CALL_S if step.is_llm else {"sql": SQL_S, "http": self.http_s, "py": 0.0}[step.kind]


def load_s(model: str) -> float:
    return LOAD_S_PER_B * MODEL_SIZES_B[model]


def published_graphs() -> dict[str, Graph]:
    """The graphs by name, w1 to w6."""
    found = {}
    for name, graph in YAML(typ="safe").load(PUBLISHED.read_text()).items():
        steps = tuple(GraphStep(step, kind, tuple(parents)) for step, (kind, *parents) in graph["steps"].items())
        found[name] = Graph(name, steps, graph["http_s"])
    return found


def random_graph(chance: Random, name: str, num_llm: int) -> Graph:
    """`num_llm` LLM steps, at least 4, of three or four models, up to half as many tools, each with at most two
    parents."""
    models = chance.sample(sorted(MODEL_SIZES_B), chance.choice((3, 4)))
    # Each model has a step.
    kinds = models + [chance.choice(models) for _ in range(num_llm - len(models))]
    kinds += [chance.choice(("sql", "http")) for _ in range(chance.randint(0, num_llm // 2))]
    chance.shuffle(kinds)
    steps: list[GraphStep] = []
    for number, kind in enumerate(kinds):
        names = [step.name for step in steps]
        parents = chance.sample(names, min(len(names), chance.randint(0, 2)))
        steps.append(GraphStep(f"{kind}_{number}", kind, tuple(sorted(parents))))
    return Graph(name, tuple(steps), chance.choice((1.0, 3.0)))
