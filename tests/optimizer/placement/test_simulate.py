from __future__ import annotations

import pytest

from sundog.errors import PlanError
from sundog.optimizer.placement.objective import Objective
from sundog.optimizer.placement.problem import (
    Assignment,
    LLMNode,
    Model,
    PlacementProblem,
    Replica,
    Timeline,
    ToolNode,
)
from sundog.optimizer.placement.simulate import simulate

MODELS = (Model("a", 5, 8), Model("b", 3, 4), Model("c", 2, 2))
ALL = frozenset("abc")


def problem(
    *nodes: LLMNode | ToolNode,
    replicas: tuple[Replica, ...] = (Replica("r0", ALL, ("a",)), Replica("r1", ALL, ("a",))),
    objective: Objective = Objective.MAKESPAN,
) -> PlacementProblem:
    llm_nodes = tuple(node for node in nodes if isinstance(node, LLMNode))
    tool_nodes = tuple(node for node in nodes if isinstance(node, ToolNode))
    return PlacementProblem(llm_nodes, tool_nodes, MODELS, replicas, objective)


def play(given: PlacementProblem, *steps: str) -> Timeline:
    """Each step as 'node' or 'node replica replica'."""
    return simulate(given, [Assignment(name, tuple(replicas)) for name, *replicas in map(str.split, steps)])


def times(timeline: Timeline) -> dict[str, tuple[float, float]]:
    return {span.node: (span.start_s, span.end_s) for span in timeline.spans}


X, Y = LLMNode("x", "a", 10), LLMNode("y", "a", 20, ("x",), kv_saved_share=0.5)


@pytest.mark.parametrize(
    ("nodes", "steps", "expected"),
    [
        pytest.param(
            (X, Y), ["x r0", "y r1"], {"x": (0, 10), "y": (10, 30)}, id="a child waits, and elsewhere saves nothing"
        ),
        pytest.param((X, Y), ["x r0", "y r0"], {"x": (0, 10), "y": (10, 20)}, id="kv reuse right after the parent"),
        pytest.param(
            (X, LLMNode("z", "a", 1), Y),
            ["x r0", "z r0", "y r0"],
            {"x": (0, 10), "z": (10, 11), "y": (11, 31)},
            id="no kv reuse after another node",
        ),
        pytest.param(
            (X, LLMNode("y", "b", 20, ("x",), kv_saved_share=0.5)),
            ["x r0", "y r0"],
            {"x": (0, 10), "y": (14, 34)},
            id="another model switches and reuses nothing",
        ),
        pytest.param(
            (ToolNode("t", 30), LLMNode("y", "b", 5, ("t",))),
            ["t", "y r0"],
            {"t": (0, 30), "y": (30, 35)},
            id="a model is loaded while a tool runs",
        ),
        pytest.param(
            (LLMNode("x", "a", 10, max_replicas=2), Y),
            ["x r0 r1", "y r0"],
            {"x": (0, 5), "y": (5, 20)},
            id="half of the rows are warm where the parent ran half",
        ),
        pytest.param(
            (LLMNode("x", "a", 10, max_replicas=2), LLMNode("y", "a", 20, ("x",), 0.5, max_replicas=2)),
            ["x r0 r1", "y r0 r1"],
            {"x": (0, 5), "y": (5, 10)},
            id="equal splits are warm throughout",
        ),
        pytest.param(
            (LLMNode("z", "a", 6), LLMNode("x", "a", 10, max_replicas=2)),
            ["z r0", "x r0 r1"],
            {"z": (0, 6), "x": (0, 11)},
            id="a shard waits for its own replica alone",
        ),
        pytest.param(
            (X, *(ToolNode(name, len(name), ("x",), pool="p") for name in ("a", "bbb")), ToolNode("c", 1, pool="p")),
            ["c", "x r0", "a", "bbb"],
            {"c": (0, 1), "x": (0, 10), "a": (13, 14), "bbb": (10, 13)},
            id="tools of one pool one after another, the longest tail first",
        ),
        pytest.param(
            (X, ToolNode("s", 4, ("x",), pool="p"), ToolNode("t", 6, ("x",), pool="q"), ToolNode("u", 5, ("x",))),
            ["x r0", "s", "t", "u"],
            {"x": (0, 10), "s": (10, 14), "t": (10, 16), "u": (10, 15)},
            id="other tools wait for none",
        ),
    ],
)
def test_times(
    nodes: tuple[LLMNode | ToolNode, ...], steps: list[str], expected: dict[str, tuple[float, float]]
) -> None:
    assert times(play(problem(*nodes), *steps)) == expected


FAST, SLOW = LLMNode("fast", "a", 10, wave_s=1), LLMNode("slow", "a", 20, ("fast",), wave_s=2)


@pytest.mark.parametrize(
    ("nodes", "steps", "expected"),
    [
        pytest.param(
            (FAST, SLOW),
            ["fast r0", "slow r1"],
            {"fast": (0, 10), "slow": (1, 21)},
            id="a child starts after the first wave",
        ),
        pytest.param(
            (FAST, LLMNode("y", "a", 6, ("fast",), wave_s=2)),
            ["fast r0", "y r1"],
            {"fast": (0, 10), "y": (1, 12)},
            id="it ends a wave after its parent, its replica waits for rows",
        ),
        pytest.param(
            (FAST, LLMNode("y", "a", 6, ("fast",), wave_s=2), LLMNode("z", "a", 3)),
            ["fast r0", "y r1", "z r1"],
            {"fast": (0, 10), "y": (1, 12), "z": (7, 10)},
            id="what comes next on that replica does not wait",
        ),
        pytest.param(
            (FAST, LLMNode("y", "a", 6, ("fast",), wave_s=2), LLMNode("z", "a", 3), LLMNode("w", "b", 3)),
            ["fast r0", "y r1", "z r1", "w r1"],
            {"fast": (0, 10), "y": (1, 12), "z": (7, 10), "w": (16, 19)},
            id="another model waits for the last rows",
        ),
        pytest.param(
            (FAST, SLOW),
            ["fast r0", "slow r0"],
            {"fast": (0, 10), "slow": (10, 30)},
            id="on one replica nothing overlaps",
        ),
        pytest.param(
            (LLMNode("z", "a", 5), LLMNode("x", "a", 10, max_replicas=2, wave_s=2), ToolNode("t", 9, ("x",), 1)),
            ["z r0", "x r0 r1", "t"],
            {"z": (0, 5), "x": (0, 10), "t": (7, 16)},
            id="the first wave is through when it is on every replica",
        ),
        pytest.param(
            (FAST, ToolNode("t", 4, ("fast",), 0.5), LLMNode("y", "a", 1, ("t",), wave_s=0.25)),
            ["fast r0", "t", "y r1"],
            {"fast": (0, 10), "t": (1, 10.5), "y": (1.5, 10.75)},
            id="rows flow through tools",
        ),
        pytest.param(
            (FAST, LLMNode("other", "a", 4, wave_s=3), LLMNode("y", "a", 1, ("fast", "other"), wave_s=1)),
            ["other r1", "fast r0", "y r1"],
            {"other": (0, 4), "fast": (0, 10), "y": (4, 11)},
            id="rows of both parents are needed",
        ),
        pytest.param(
            (LLMNode("x", "a", 6, max_replicas=2, wave_s=4, call_s=4), LLMNode("y", "a", 5, wave_s=4)),
            ["x r0 r1", "y r0"],
            {"x": (0, 4), "y": (3, 8)},
            id="half of the rows take a call, and leave places to others",
        ),
        pytest.param(
            (ToolNode("t", 1, call_s=3), ToolNode("u", 1, wave_s=2, call_s=2), LLMNode("y", "a", 1, ("t", "u"))),
            ["t", "u", "y r0"],
            {"t": (0, 3), "u": (0, 2), "y": (3, 4)},
            id="a tool takes a call at least",
        ),
        pytest.param(
            (
                FAST,
                ToolNode("t", 4, ("fast",), 0.5, "p"),
                ToolNode("u", 3, ("fast",), 1, "p"),
                LLMNode("y", "a", 2, ("u",)),
            ),
            ["fast r0", "u", "t", "y r1"],
            {"fast": (0, 10), "u": (1, 11), "t": (4, 10.5), "y": (2, 13)},
            id="a pool that has had the time for one tool's work takes the next",
        ),
    ],
)
def test_rows_flow(
    nodes: tuple[LLMNode | ToolNode, ...], steps: list[str], expected: dict[str, tuple[float, float]]
) -> None:
    assert times(play(problem(*nodes), *steps)) == expected


def test_a_pool_takes_the_tools_in_the_order_in_which_what_they_read_is_placed() -> None:
    given = problem(X, LLMNode("y", "a", 20), *(ToolNode(f"of-{name}", 6, (name,), pool="p") for name in "xy"))
    rest = ["of-x", "of-y"]
    assert times(play(given, "y r1", "x r0", *rest)) == times(play(given, "y r1", "x r0", *rest[::-1]))
    assert play(given, "x r0", "y r1", *rest).value == 26
    assert play(given, "y r1", "x r0", *rest).value == 32


def test_the_model_longest_unused_leaves() -> None:
    replica = Replica("r0", ALL, ("a",), max_resident=2)
    nodes = [LLMNode(name, model, 10) for name, model in zip("vwxyz", "bacab", strict=True)]
    timeline = play(problem(*nodes, replicas=(replica,)), *(f"{name} r0" for name in "vwxyz"))
    assert [(shard.node, shard.load_s) for shard in timeline.model_loads] == [("v", 3), ("x", 2), ("z", 4)]


def test_a_shard_says_what_it_loaded_and_saved() -> None:
    timeline = play(problem(X, Y, LLMNode("z", "b", 1)), "x r0", "y r0", "z r1")
    assert [(s.is_load, s.load_s, s.kv_saved_s) for s in timeline.shards] == [
        (False, 0, 0),
        (False, 0, 10),
        (True, 4, 0),
    ]
    assert timeline.order_on("r0") == ("x", "y")


@pytest.mark.parametrize(
    ("objective", "value"),
    [(Objective.MAKESPAN, 21), (Objective.MEAN_COMPLETION, 13), (Objective.COST, 2 * 20 + 3 * 5)],
)
def test_objectives(objective: Objective, value: float) -> None:
    replicas = (Replica("r0", ALL, ("a",), usd_per_s=2), Replica("r1", ALL, ("a",), usd_per_s=3), Replica("r2", ALL))
    given = problem(X, Y, LLMNode("z", "a", 5), ToolNode("t", 1, ("y",)), replicas=replicas, objective=objective)
    assert play(given, "x r0", "y r0", "t", "z r1").value == value


def test_epochs_are_stages_of_one_node_for_each_replica() -> None:
    nodes = (X, Y, LLMNode("z", "a", 5, ("x",)), ToolNode("t", 1, ("z",)), LLMNode("w", "a", 1, ("t",)))
    timeline = play(problem(*nodes), "x r0", "z r1", "y r0", "t", "w r1")
    assert timeline.epochs == (("x", "z", "t"), ("y", "w"))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["y r0", "x r0"], "placement of y: placed twice or before a parent"),
        (["x r0", "x r0"], "placement of x: placed twice"),
        (["x r0"], "leaves out y"),
        (["x r9", "y r0"], "cannot run on r9"),
        (["x r0 r1", "y r0"], "on 2 replicas, at most 1"),
        (["x", "y r0"], "on 0 replicas"),
        (["x r0 r0", "y r0"], "cannot run on r0, r0"),
        (["x r2", "y r0"], "cannot run on r2"),
        (["xx r0"], "did you mean 'x'"),
    ],
)
def test_what_is_no_placement(steps: list[str], message: str) -> None:
    replicas = (Replica("r0", ALL, ("a",)), Replica("r1", ALL), Replica("r2", frozenset("b")))
    with pytest.raises(PlanError, match=message):
        play(problem(X, Y, replicas=replicas), *steps)


@pytest.mark.parametrize(
    ("nodes", "replicas", "message"),
    [
        ((X, X), (), "two nodes are named 'x'"),
        ((LLMNode("x", "d", 1),), (), "no replica can serve model 'd'"),
        ((Y,), (), "unknown parent 'x'"),
        ((LLMNode("x", "a", -1),), (), "exec_s of -1"),
        ((LLMNode("x", "a", float("nan")),), (), "exec_s of nan"),
        ((LLMNode("x", "a", 1, wave_s=float("nan")),), (), "wave_s of nan"),
        ((ToolNode("x", 1, call_s=-1),), (), "call_s of -1"),
        ((LLMNode("x", "a", 1, kv_saved_share=1),), (), r"kv_saved_share must be in \[0, 1\)"),
        ((LLMNode("x", "a", 1, ("t",)), ToolNode("t", 1, ("x",))), (), "wait for each other: "),
        ((X,), (Replica("r0", frozenset("ad")),), "unknown model 'd'"),
        ((X,), (Replica("r0", frozenset("a"), ("b",)),), "resident models must be different ones that it can serve"),
        ((X,), (Replica("r0", ALL, ("a", "b")),), "2 models resident, room for 1"),
    ],
)
def test_what_is_no_problem(nodes: tuple[LLMNode | ToolNode, ...], replicas: tuple[Replica, ...], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        problem(*nodes, replicas=replicas or (Replica("r0", ALL),))
