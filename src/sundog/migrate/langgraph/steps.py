"""The steps that the nodes of a graph become, and where their values come from.

Owns what a node is in a flow. Never decides in which order nodes come.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

from sundog.migrate.langgraph.functions import FunctionFacts, ModelQuestion, NodeFunction, StateKey, facts_of
from sundog.migrate.langgraph.state import StateWriter, value_of_key
from sundog.migrate.written import FreshNames, ImportedFlow, flow_name

OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class WayIn:
    """A way into a node: from another one, always or where a route step says so."""

    source: str
    #: The condition, as an expression; None for always.
    route: str | None = None


@dataclass(slots=True)
class GraphWalk:
    """The flow that is being made of a graph, and what is known of the graph so far."""

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


def callable_function(runnable: Any) -> NodeFunction | None:
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


def add_step(name: str, function: NodeFunction, before: list[str], walk: GraphWalk) -> None:
    """Add the step of a node, after those of the nodes `before` it."""
    facts = facts_of(function)
    writers = [walk.writers[one] for one in before if one in walk.writers]
    step = walk.names.give(name)
    walk.steps[name] = step
    if facts.question is not None:
        node = _question(facts.question, writers, walk)
    else:
        node = call_of(function, facts, writers, walk)
        if facts.writes is None:
            walk.made.leave_out(f"what '{name}' writes: its `return` does not show the keys")
    condition = walk.conditions[name]
    walk.made.flow["nodes"][step] = placed(node, condition, walk.edges[name], walk)
    keys = frozenset({facts.question.key}) if facts.question is not None else facts.writes or frozenset()
    always = keys if facts.question is not None else facts.always_writes
    walk.writers[name] = StateWriter(step, keys, always, facts.question is not None, condition is not None)


def placed(node: dict[str, Any], condition: str | None, edges: list[WayIn], walk: GraphWalk) -> dict[str, Any]:
    """Return a node with the conditions of the ways into it, and what it comes after though it reads nothing of it."""
    when = {} if condition is None else {"when": f"{{{{ {condition} }}}}"}
    steps = [walk.steps[edge.source] for edge in edges if edge.route is None and edge.source in walk.steps]
    text = str(node)
    after = [step for step in dict.fromkeys(steps) if f"{step}." not in text]
    return {**when, **node, **({"after": after} if after else {})}


def _question(question: ModelQuestion, writers: list[StateWriter], walk: GraphWalk) -> dict[str, Any]:
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


def _template(part: str | StateKey, writers: list[StateWriter], walk: GraphWalk) -> str:
    return part if isinstance(part, str) else value_template(part.name, writers, walk)


def value_template(key: str, writers: list[StateWriter], walk: GraphWalk) -> str:
    """Return a template with the value of a key. It is the input's where no step before has written it: then the input
    has it, for steps below too."""
    if not any(key in writer.keys for writer in writers):
        walk.from_row[key] = None
    return f"{{{{ {value_of_key(key, writers, is_input=key in walk.from_row)} }}}}"


def _engine(model: Any, walk: GraphWalk) -> str:
    if id(model) not in walk.engines:
        name = str(getattr(model, "model_name", None) or getattr(model, "model", None) or "model")
        base_url = getattr(model, "openai_api_base", None) or getattr(model, "base_url", None)
        block: dict[str, Any] = {"kind": "openai", "model": name, "base_url": str(base_url or OPENAI_URL)}
        if base_url is None:
            block["api_key"] = "${env:OPENAI_API_KEY}"
        walk.engines[id(model)] = walk.names.give(flow_name(name.rpartition("/")[2]))
        walk.made.flow["engines"][walk.engines[id(model)]] = block
    return walk.engines[id(model)]


def call_of(
    function: NodeFunction, facts: FunctionFacts, writers: list[StateWriter], walk: GraphWalk
) -> dict[str, Any]:
    """Return the step that calls a function with those keys of the state that it reads."""
    reads = [key for key in walk.keys if facts.reads is None or key in facts.reads]
    state = {key: value_template(key, writers, walk) for key in reads}
    call = f"{function.__module__}:{function.__name__}"
    return {"python": {"call": call, "args": {facts.parameter: state}}}
