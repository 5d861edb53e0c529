"""Random placement problems of a given size, from a given stream of numbers."""

from __future__ import annotations

from math import inf
from random import Random

from sundog.optimizer.placement.objective import Objective
from sundog.optimizer.placement.problem import LLMNode, Model, PlacementProblem, Replica, ToolNode


def random_plan(  # noqa: PLR0913 - sizes, each given by name
    stream: Random,
    *,
    num_llm: int,
    num_tools: int,
    num_replicas: int,
    num_models: int,
    num_pools: int,
    split_share: float,
    flow_share: float,
    objective: Objective = Objective.MAKESPAN,
) -> PlacementProblem:
    """Each node has up to two parents among those before it; `split_share` of the LLM nodes can be split; of
    `flow_share` of the nodes rows go on before the batch has ended; half of the tools share `num_pools` pools."""
    models = []
    for number in range(num_models):
        load_s = stream.randint(2, 12)
        models.append(Model(f"m{number}", load_s, load_s * stream.choice([1, 2])))
    replicas = [
        Replica(
            f"r{number}",
            frozenset(model.name for model in models),
            (stream.choice(models).name,) if stream.random() < 0.5 else (),
            usd_per_s=stream.choice([1.0, 2.0]),
        )
        for number in range(num_replicas)
    ]
    llm_nodes: list[LLMNode] = []
    tool_nodes: list[ToolNode] = []
    names: list[str] = []
    kinds = ["llm"] * num_llm + ["tool"] * num_tools
    stream.shuffle(kinds)
    most_parents = stream.choice([1, 2])
    for number, kind in enumerate(kinds):
        name = f"{kind}{number}"
        parents = tuple(sorted(stream.sample(names, min(len(names), stream.randint(0, most_parents)))))
        if kind == "tool":
            wave = wave_s(stream, flow_share)
            # Tools beyond the pools, as many again, have places of their own.
            pool = stream.choice([*(f"p{place}" for place in range(num_pools)), *[None] * num_pools])
            tool_nodes.append(ToolNode(name, stream.randint(1, 15), parents, wave, pool, call_s(stream, wave)))
        else:
            can_split = stream.random() < split_share
            wave = wave_s(stream, flow_share)
            llm_nodes.append(
                LLMNode(
                    name,
                    stream.choice(models).name,
                    stream.randint(3, 40),
                    parents,
                    kv_saved_share=stream.choice([0.0, 0.1, 0.3]),
                    max_replicas=stream.choice([2, num_replicas]) if can_split else 1,
                    wave_s=wave,
                    call_s=call_s(stream, wave),
                )
            )
        names.append(name)
    return PlacementProblem(tuple(llm_nodes), tuple(tool_nodes), tuple(models), tuple(replicas), objective)


def wave_s(stream: Random, flow_share: float) -> float:
    return stream.randint(1, 20) if stream.random() < flow_share else inf


def call_s(stream: Random, wave: float) -> float:
    """Return nothing where rows do not flow, else as long as a wave or, as often, less."""
    return 0.0 if wave == inf else stream.choice([wave, wave / 2])


def small_plan(stream: Random, most_llm: int, objective: Objective = Objective.MAKESPAN) -> PlacementProblem:
    """Three to `most_llm` LLM nodes, up to six tools, two to four replicas of up to three models."""
    return random_plan(
        stream,
        num_llm=stream.randint(min(3, most_llm), most_llm),
        num_tools=stream.randint(0, 6),
        num_replicas=stream.randint(2, 4),
        num_models=stream.randint(1, 3),
        num_pools=stream.randint(1, 2),
        split_share=stream.choice([0.0, 0.5, 1.0]),
        flow_share=stream.choice([0.0, 0.5, 1.0]),
        objective=objective,
    )
