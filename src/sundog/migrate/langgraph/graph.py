"""A LangGraph graph as a flow: nodes as steps, conditional edges as `when`.

Owns the way through the graph. It reads the graph's own description of itself; of LangGraph it imports nothing.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from sundog.errors import FlowError
from sundog.migrate.langgraph.functions import FunctionFacts, ModelQuestion, NodeFunction, StateKey, facts_of
from sundog.migrate.langgraph.state import StateWriter, value_of_key
from sundog.migrate.written import FreshNames, ImportedFlow, flow_name

START, END = "__start__", "__end__"
OPENAI = "https://api.openai.com/v1"
_RESERVED = ("row", "item", "loop", "rows")


@dataclass(frozen=True, slots=True)
class WayIn:
    """A way into a node: from another one, always or where a route step says so."""

    source: str
    #: The condition, as an expression; None for always.
    route: str | None = None


@dataclass(slots=True)
class _Walk:
    made: ImportedFlow
    builder: Any
    keys: list[str]
    names: FreshNames
    edges: dict[str, list[WayIn]] = field(default_factory=dict)
    writers: dict[str, StateWriter] = field(default_factory=dict)
    #: By node: when it runs, as an expression; None for always.
    conditions: dict[str, str | None] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)
    from_row: dict[str, None] = field(default_factory=dict)
    engines: dict[int, str] = field(default_factory=dict)


def import_langgraph(reference: str) -> ImportedFlow:
    """Return the flow of the graph that `module:name` leads to. FlowError where there is none, or nothing of it can be
    taken over."""
    graph = _loaded(reference)
    builder = getattr(graph, "builder", graph)
    if not all(hasattr(builder, name) for name in ("nodes", "edges", "branches")):
        raise FlowError(f"'{reference}' is no graph of LangGraph", hint="it is a StateGraph, compiled or not")
    flow = {"name": flow_name(reference.partition(":")[2]), "engines": {}, "inputs": {}, "nodes": {}, "outputs": {}}
    walk = _Walk(ImportedFlow(flow), builder, _keys(builder), FreshNames(_RESERVED))
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


def _order(walk: _Walk) -> list[str]:
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


def _lead(walk: _Walk, source: str, target: str, route: str | None) -> None:
    if target != END:
        walk.edges.setdefault(target, []).append(WayIn(source, route))


def _add_branch(walk: _Walk, source: str, name: str, branch: Any) -> None:
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


def _add_node(name: str, before: list[str], walk: _Walk) -> None:
    walk.conditions[name] = _condition(name, walk)
    function = _function(walk.builder.nodes[name].runnable)
    if function is None:
        walk.made.leave_out(f"the node '{name}': it is no function of a module")
    else:
        _add_step(name, function, before, walk)
    _add_routes(name, [*before, name], walk)


def _condition(name: str, walk: _Walk) -> str | None:
    """Return when a node runs: where any of the ways into it is gone."""
    ways: list[str] = []
    for edge in walk.edges[name]:
        way = edge.route or (None if edge.source == START else walk.conditions.get(edge.source))
        if way is None:
            return None
        if way not in ways:
            ways.append(way)
    return " or ".join(ways) if len(ways) == 1 else " or ".join(f"({way})" for way in ways)


def _function(runnable: Any) -> NodeFunction | None:
    """Return the function of a node or a route that a flow can call by name."""
    function = getattr(runnable, "func", None) or getattr(runnable, "afunc", None)
    if not inspect.isfunction(function) or "<" in function.__qualname__ or "." in function.__qualname__:
        return None
    required = [
        one
        for one in inspect.signature(function).parameters.values()
        if one.default is one.empty and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY, one.POSITIONAL_ONLY)
    ]
    return function if len(required) == 1 else None


def _add_step(name: str, function: NodeFunction, before: list[str], walk: _Walk) -> None:
    facts = facts_of(function)
    writers = [walk.writers[one] for one in before if one in walk.writers]
    step = walk.names.give(name)
    walk.steps[name] = step
    if facts.question is not None:
        node = _question(facts.question, writers, walk)
    else:
        node = _call(function, facts, writers, walk)
        if facts.writes is None:
            walk.made.leave_out(f"what '{name}' writes: its `return` does not show the keys")
    condition = walk.conditions[name]
    walk.made.flow["nodes"][step] = _placed(node, condition, walk.edges[name], walk)
    keys = frozenset({facts.question.key}) if facts.question is not None else facts.writes or frozenset()
    always = keys if facts.question is not None else facts.always_writes
    walk.writers[name] = StateWriter(step, keys, always, facts.question is not None, condition is not None)


def _placed(node: dict[str, Any], condition: str | None, edges: list[WayIn], walk: _Walk) -> dict[str, Any]:
    """Return a node with the conditions of the ways into it, and what it comes after though it reads nothing of it."""
    when = {} if condition is None else {"when": f"{{{{ {condition} }}}}"}
    steps = [walk.steps[edge.source] for edge in edges if edge.route is None and edge.source in walk.steps]
    text = str(node)
    after = [step for step in dict.fromkeys(steps) if f"{step}." not in text]
    return {**when, **node, **({"after": after} if after else {})}


def _question(question: ModelQuestion, writers: list[StateWriter], walk: _Walk) -> dict[str, Any]:
    messages = [
        {"role": role, "content": "".join(_template(part, writers, walk) for part in parts)}
        for role, parts in question.messages
    ]
    said: dict[str, Any] = {"prompt": messages[0]["content"]} if len(messages) == 1 else {"messages": messages}
    options = {
        name: value
        for name in ("temperature", "max_tokens")
        if (value := getattr(question.model, name, None)) is not None
    }
    return {"llm": {"engine": _engine(question.model, walk), **said, **options}}


def _template(part: str | StateKey, writers: list[StateWriter], walk: _Walk) -> str:
    return part if isinstance(part, str) else _value(part.name, writers, walk)


def _value(key: str, writers: list[StateWriter], walk: _Walk) -> str:
    """Return a template with the value of a key. It is the input's where no step before has written it: then the input
    has it, for steps below too."""
    if not any(key in writer.keys for writer in writers):
        walk.from_row[key] = None
    return f"{{{{ {value_of_key(key, writers, is_input=key in walk.from_row)} }}}}"


def _engine(model: Any, walk: _Walk) -> str:
    if id(model) not in walk.engines:
        name = str(getattr(model, "model_name", None) or getattr(model, "model", None) or "model")
        base_url = getattr(model, "openai_api_base", None) or getattr(model, "base_url", None)
        block: dict[str, Any] = {"kind": "openai", "model": name, "base_url": str(base_url or OPENAI)}
        if base_url is None:
            block["api_key"] = "${env:OPENAI_API_KEY}"
        walk.engines[id(model)] = walk.names.give(flow_name(name.rpartition("/")[2]))
        walk.made.flow["engines"][walk.engines[id(model)]] = block
    return walk.engines[id(model)]


def _call(function: NodeFunction, facts: FunctionFacts, writers: list[StateWriter], walk: _Walk) -> dict[str, Any]:
    reads = [key for key in walk.keys if facts.reads is None or key in facts.reads]
    state = {key: _value(key, writers, walk) for key in reads}
    call = f"{function.__module__}:{function.__name__}"
    return {"python": {"call": call, "args": {facts.parameter: state}}}


def _add_routes(source: str, before: list[str], walk: _Walk) -> None:
    """Add the steps that say which way is gone from a node."""
    for name, branch in walk.builder.branches.get(source, {}).items():
        function, step = _function(branch.path), walk.steps[f"{source} {name}"]
        if function is None:
            walk.made.leave_out(f"the route '{name}' after '{source}': it is no function of a module")
            continue
        writers = [walk.writers[one] for one in before if one in walk.writers]
        node = _call(function, facts_of(function), writers, walk)
        walk.made.flow["nodes"][step] = _placed(node, walk.conditions.get(source), [WayIn(source)], walk)


def _finish(walk: _Walk) -> None:
    flow, writers = walk.made.flow, list(walk.writers.values())
    for key in _reduced(walk.builder, walk.keys):
        walk.made.leave_out(f"the reducer of '{key}': the value of the last writer counts")
    written = {key for writer in writers for key in writer.keys}
    for key in (key for key in walk.keys if key in written):
        flow["outputs"][key] = _value(key, writers, walk)
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
