"""The names inside the tools of agents: a tool is written once, and each agent that may use it has nodes of its own.

Owns how these are called. Steps in loops keep their names, since templates read them through the loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from sundog.ir.agents import Agent
from sundog.ir.logical import Filter, Loop, Node, Step
from sundog.ir.templates.substitute import TemplateChange, change_templates, rename
from sundog.ir.templates.template import Template


def outer_names(node: Node) -> Iterator[str]:
    """Yield the names of a node and of those inside it, but for those in loops."""
    yield node.name
    if isinstance(node, Loop) and not node.is_plain:
        for inner in node.body:
            yield from outer_names(inner)


def names_in_loops(node: Node, *, is_inside: bool = False) -> Iterator[str]:
    """Yield the names inside a node that `outer_names` leaves out."""
    if isinstance(node, Loop):
        is_inside = is_inside or node.is_plain
        for inner in node.body:
            if is_inside:
                yield inner.name
            yield from names_in_loops(inner, is_inside=is_inside)


def variables_of(node: Node) -> Iterator[str]:
    """Yield the names of the elements of `for_each` in a node, but for those in an agent's tools."""
    if not isinstance(node, Filter) and node.for_each is not None:
        yield node.for_each.variable
    if isinstance(node, Loop):
        for inner in node.body[:1] if isinstance(node, Agent) else node.body:
            yield from variables_of(inner)


def with_prefix(node: Step | Loop, prefix: str) -> Step | Loop:
    """Return the node of a tool whose own names all have a prefix."""
    names = {name: f"{prefix}{name}" for name in outer_names(node)}

    def renamed(template: Template) -> Template:
        found = rename(template, names)
        assert found is not None, "names that agents give can be changed for certain"
        return found

    found = called_anew(change_templates(node, renamed), names)
    assert isinstance(found, Step | Loop)
    return found


def called_anew(node: Node, names: Mapping[str, str]) -> Node:
    """Return a node with new names, its own and those inside it, whose templates have them already."""
    after = tuple(names.get(name, name) for name in node.after)
    node = replace(node, name=names.get(node.name, node.name), after=after)
    if not isinstance(node, Filter) and node.for_each is not None:
        variable = node.for_each.variable
        node = replace(node, for_each=replace(node.for_each, variable=names.get(variable, variable)))
    if isinstance(node, Loop):
        node = replace(node, body=tuple(called_anew(inner, names) for inner in node.body))
    if isinstance(node, Agent):
        return replace(node, tools=tuple(replace(tool, step=names.get(tool.step, tool.step)) for tool in node.tools))
    return node


def change_outer(node: Node, change: TemplateChange, change_tools: TemplateChange) -> Node:
    """Return a node with `change` applied to its templates, and `change_tools` to those of agents' tools, which were
    written elsewhere."""
    if isinstance(node, Agent):
        turn, *tools = node.body
        changed = change_templates(replace(node, body=(turn,)), change)
        return replace(changed, body=(*changed.body, *(change_templates(tool, change_tools) for tool in tools)))
    if isinstance(node, Loop):
        body = tuple(change_outer(inner, change, change_tools) for inner in node.body)
        return replace(change_templates(replace(node, body=()), change), body=body)
    return change_templates(node, change)
