"""A LangGraph graph as a flow: nodes as steps, conditional edges as `when`.

Owns the way through the graph. It reads the graph's own description of itself; of LangGraph it imports nothing.
"""

from __future__ import annotations

import importlib
import sys
import typing
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from sundog.errors import FlowError
from sundog.migrate.langgraph.functions import facts_of
from sundog.migrate.langgraph.steps import (
    GraphWalk,
    WayIn,
    add_step,
    call_of,
    callable_function,
    placed,
    value_template,
)
from sundog.migrate.written import FreshNames, ImportedFlow, flow_name

START, END = "__start__", "__end__"
_RESERVED = ("row", "item", "loop", "rows")


def import_langgraph(reference: str) -> ImportedFlow:
    """Return the flow of the graph that `module:name` leads to. FlowError where there is none, or nothing of it can be
    taken over."""
    graph = _loaded(reference)
    builder = getattr(graph, "builder", graph)
    if not all(hasattr(builder, name) for name in ("nodes", "edges", "branches")):
        raise FlowError(f"'{reference}' is no graph of LangGraph", hint="it is a StateGraph, compiled or not")
    flow = {"name": flow_name(reference.partition(":")[2]), "engines": {}, "inputs": {}, "nodes": {}, "outputs": {}}
    walk = GraphWalk(ImportedFlow(flow), builder, _keys(builder), FreshNames(_RESERVED))
    order = _order(walk)
    for name in sorted(builder.nodes.keys() - set(order)):
        walk.made.leave_out(f"the node '{name}': no edge leads to it")
    _add_routes(START, [], walk)
    for place, name in enumerate(order):
        _add_node(name, order[:place], walk)
    if not flow["nodes"]:
        raise FlowError(
            f"nothing of {reference} could be taken over", hint="\n  ".join(walk.made.not_taken_over) or "it is empty"
        )
    _finish(walk)
    return walk.made


def _loaded(reference: str) -> Any:
    module, _, name = reference.partition(":")
    if not name:
        raise FlowError(f"'{reference}' is no module:graph", hint="as in agents.triage:graph")
    sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise FlowError(
            f"'{reference}' cannot be imported: {error}", hint="it is looked for from this folder"
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))


def _keys(builder: Any) -> list[str]:
    """Return the keys of the graph's state."""
    schema = getattr(builder, "state_schema", None) or getattr(builder, "schema", None)
    try:
        return list(typing.get_type_hints(schema))
    except (TypeError, NameError):
        return []


def _order(walk: GraphWalk) -> list[str]:
    """Return the nodes so that each comes after those that lead to it; fills the edges."""
    for source, target in sorted(walk.builder.edges):
        _lead(walk, source, target, None)
    for sources, target in sorted(getattr(walk.builder, "waiting_edges", ())):
        for source in sources:
            _lead(walk, source, target, None)
    for source, branches in walk.builder.branches.items():
        for name, branch in branches.items():
            _add_branch(walk, source, name, branch)
    sorter = TopologicalSorter({node: [edge.source for edge in edges] for node, edges in walk.edges.items()})
    try:
        return [node for node in sorter.static_order() if node in walk.builder.nodes]
    except CycleError as error:
        way = " -> ".join(error.args[1])
        raise FlowError(f"the graph goes round: {way}", hint="write these nodes as a loop with max_turns") from error


def _lead(walk: GraphWalk, source: str, target: str, route: str | None) -> None:
    if target != END:
        walk.edges.setdefault(target, []).append(WayIn(source, route))


def _add_branch(walk: GraphWalk, source: str, name: str, branch: Any) -> None:
    step = walk.names.give(f"route_{'start' if source == START else source}")
    walk.steps[f"{source} {name}"] = step
    for answer, target in (branch.ends or {}).items():
        _lead(
            walk,
            source,
            target,
            f"{step} == {answer!r}" if not isinstance(answer, bool) else f"{step} is {answer}".lower(),
        )
    if not branch.ends:
        walk.made.leave_out(f"where the edges of '{name}' lead: its answers are not listed; give it a path_map")


def _add_node(name: str, before: list[str], walk: GraphWalk) -> None:
    walk.conditions[name] = _condition(name, walk)
    function = callable_function(walk.builder.nodes[name].runnable)
    if function is None:
        walk.made.leave_out(f"the node '{name}': it is no function of a module")
    else:
        add_step(name, function, before, walk)
    _add_routes(name, [*before, name], walk)


def _condition(name: str, walk: GraphWalk) -> str | None:
    """Return when a node runs: where any of the ways into it is gone."""
    ways: list[str] = []
    for edge in walk.edges[name]:
        way = edge.route or (None if edge.source == START else walk.conditions.get(edge.source))
        if way is None:
            return None
        if way not in ways:
            ways.append(way)
    return " or ".join(ways) if len(ways) == 1 else " or ".join(f"({way})" for way in ways)


def _add_routes(source: str, before: list[str], walk: GraphWalk) -> None:
    """Add the steps that say which way is gone from a node."""
    for name, branch in walk.builder.branches.get(source, {}).items():
        function, step = callable_function(branch.path), walk.steps[f"{source} {name}"]
        if function is None:
            walk.made.leave_out(f"the route '{name}' after '{source}': it is no function of a module")
            continue
        writers = [walk.writers[one] for one in before if one in walk.writers]
        node = call_of(function, facts_of(function), writers, walk)
        walk.made.flow["nodes"][step] = placed(node, walk.conditions.get(source), [WayIn(source)], walk)


def _finish(walk: GraphWalk) -> None:
    flow, writers = walk.made.flow, list(walk.writers.values())
    for key in _reduced(walk.builder, walk.keys):
        walk.made.leave_out(f"the reducer of '{key}': the value of the last writer counts")
    written = {key for writer in writers for key in writer.keys}
    for key in (key for key in walk.keys if key in written):
        flow["outputs"][key] = value_template(key, writers, walk)
    flow["inputs"]["rows"] = {"path": "rows.jsonl"}
    listed = ", ".join(walk.from_row) or "what you like"
    walk.made.remarks.append(f"rows.jsonl has a line for each run of the graph: an object with {listed}.")
    if any("python" in node for node in flow["nodes"].values()):
        walk.made.remarks.append(
            "Its functions are taken for ones that change nothing: write effect: true where one does."
        )
    if not flow["engines"]:
        del flow["engines"]


def _reduced(builder: Any, keys: list[str]) -> Iterator[str]:
    schema = getattr(builder, "state_schema", None) or getattr(builder, "schema", None)
    hints = typing.get_type_hints(schema, include_extras=True) if keys else {}
    return (key for key in keys if typing.get_origin(hints.get(key)) is typing.Annotated)
