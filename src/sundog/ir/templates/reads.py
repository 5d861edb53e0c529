"""The values that a plan's nodes read, path by path.

Owns the reach of names: into a loop's body and out of it. Never changes a node.
"""

from __future__ import annotations

from collections.abc import Iterable

from sundog.ir.agents import ToolFlow
from sundog.ir.logical import Filter, Loop, Node, Step, Table, ValueNode, templates_of
from sundog.ir.templates.template import LOOP, Path

DICT_METHODS = frozenset(dir(dict))
"""What a template reads of a row by these names may be the method and not the column, and the method reaches all."""


def paths_read(node: Node) -> frozenset[Path]:
    """Return the paths that a node reads from outside itself; of a loop, those that leave its body."""
    match node:
        case Step() | Filter() | ValueNode():
            return _paths(node)
        case Loop():
            own = {inner.name for inner in node.body} | ({LOOP} if node.is_plain else frozenset())
            inside = _paths(node.conditions).union(*(paths_read(inner) for inner in node.body))
            return _paths((node.when, node.for_each, node.max_turns)) | {path for path in inside if path[0] not in own}


def outer_paths(table: Table) -> frozenset[Path]:
    """Return the paths that a table's nodes and outputs read, outside the bodies of loops."""
    shown = (template.paths for _, template in table.outputs)
    return frozenset[Path]().union(*shown, *(paths_read(node) for node in table.nodes))


def names_needed(loop: Loop, outer: Iterable[Path]) -> frozenset[str]:
    """Return the steps of a loop's body whose values are read by other than the turn's own steps: as `names_passed_on`,
    and those that `until` reads. The model of an agent may need all of its own, of a step that another may stand in for
    both count, and of a tool's flow those that its outputs read."""
    if isinstance(loop, ToolFlow):
        return _names(loop) & {path[0] for path in _paths(loop.conditions)}
    if not loop.is_plain:
        return _names(loop)
    return names_passed_on(loop, outer) | ({path[0] for path in _paths(loop.until)} & _names(loop))


def names_passed_on(loop: Loop, outer: Iterable[Path]) -> frozenset[str]:
    """Return the steps of a loop's body that are read through the loop's value (by the paths `outer`) `loop.last` or
    `loop.history`. All of them where such a value is read as a whole."""
    names = _names(loop)
    passed: set[str] = set()
    for path in outer:
        if path[0] == loop.name:
            passed |= _needed_of(path[1:] if loop.for_each is None else _of_element(path[1:]), names)
    for path in _paths(loop.until).union(*(paths_read(inner) for inner in loop.body)):
        match path:
            case ("loop", "turn", *_):
                pass
            case ("loop", "last" | "history", *rest):
                passed |= _needed_of(tuple(rest), names)
            case ("loop", *_):
                passed |= names
    return frozenset(passed)


def reads_history(loop: Loop) -> bool:
    """Return whether anything in a turn reads the values of all turns before."""
    paths = _paths(loop.until).union(*(paths_read(inner) for inner in loop.body))
    return any(path[:2] == (LOOP, "history") or path == (LOOP,) for path in paths)


def _names(loop: Loop) -> frozenset[str]:
    return frozenset(inner.name for inner in loop.body)


def _needed_of(path: Path, names: frozenset[str]) -> frozenset[str]:
    """Return the names that a path needs. `path` leads into a dict of the body's values. Anything but a plain key, a
    method too, may reach all of it."""
    if path and path[0] in names:
        return frozenset(path[:1])
    return frozenset() if path[:1] == ("turns",) else names


def _of_element(path: Path) -> Path:
    return path[1:] if path and path[0].isdigit() else ()


def _paths(value: object) -> frozenset[Path]:
    return frozenset().union(*(template.paths for template in templates_of(value)))
