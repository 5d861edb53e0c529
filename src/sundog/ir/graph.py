"""The order in a set of nodes: who waits for whom.

Owns dependencies, cycles and topological order. Never reads anything but the nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from itertools import groupby
from types import MappingProxyType

from sundog.errors import FlowError
from sundog.ir.logical import Filter, Loop, Node, Table, templates_of

NOTHING_HELD: Mapping[str, Sequence[str]] = MappingProxyType({})


def names_read(node: Node) -> frozenset[str]:
    """Return the outermost names that a node's templates read from outside the node."""
    names = {name for template in templates_of(node) for name in template.names}
    if isinstance(node, Loop):
        names -= {inner.name for inner in node.body} | {"loop"}
    return frozenset(names)


def dependencies(nodes: Sequence[Node], resource_order: Iterable[tuple[str, str]] = ()) -> dict[str, tuple[str, ...]]:
    """Return for each node the nodes it must wait for, in file order.

    Three reasons: its templates read the other's value; `after` names it; the other is a filter written
    before it. `resource_order` adds pairs (first, second) that touch the same outside state.
    """
    position = {node.name: index for index, node in enumerate(nodes)}
    before: dict[str, set[str]] = {node.name: set() for node in nodes}
    filters: list[str] = []
    for node in nodes:
        before[node.name] |= (names_read(node) | set(node.after)) & position.keys()
        before[node.name] |= set(filters)
        if isinstance(node, Filter):
            filters.append(node.name)
    for first, second in resource_order:
        before[second].add(first)
    return {name: tuple(sorted(found, key=position.__getitem__)) for name, found in before.items()}


def nearest(nodes: Sequence[Node]) -> dict[str, tuple[str, ...]]:
    """Return what `dependencies` does, but of the filters written before a node only the last, which waits for the
    others: what follows from it is the same, and it grows with the nodes, not with the filters times the nodes."""
    known = {node.name for node in nodes}
    found: dict[str, tuple[str, ...]] = {}
    last: tuple[str, ...] = ()
    for node in nodes:
        read = sorted((names_read(node) | set(node.after)) & known)
        found[node.name] = tuple(dict.fromkeys((*read, *last)))
        if isinstance(node, Filter):
            last = (node.name,)
    return found


class Ancestry:
    """Everything that each node waits for, also through others, as the bits of one number: a set of names for each of
    thousands of nodes is too much. `before`: as of `dependencies` or `nearest`."""

    def __init__(self, nodes: Sequence[Node], before: Mapping[str, Sequence[str]]) -> None:
        self.bit = {node.name: 1 << index for index, node in enumerate(nodes)}
        self.above: dict[str, int] = {}
        for node in topological_order(nodes, before):
            bits = 0
            for name in before[node.name]:
                bits |= self.bit[name] | self.above[name]
            self.above[node.name] = bits

    def up_to(self, name: str) -> int:
        """Return the node itself and all that it waits for."""
        return self.bit[name] | self.above[name]

    def bits(self, names: Iterable[str]) -> int:
        found = 0
        for name in names:
            found |= self.bit[name]
        return found


def ancestors(name: str, before: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Return everything that `name` waits for, also through others."""
    found: set[str] = set()
    left = list(before[name])
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += before[one]
    return frozenset(found)


def table_order(tables: Sequence[Table], held: Mapping[str, Sequence[str]] = NOTHING_HELD) -> tuple[Table, ...]:
    """Return `tables` so that each comes after those that it reads, and those in `held`, otherwise in file order;
    FlowError on a cycle."""
    by_name = {table.name: table for table in tables}
    before = {
        table.name: [name for name in (*table.reads, *held.get(table.name, ())) if name in by_name] for table in tables
    }
    return tuple(by_name[name] for name in _sorted(before, by_name, "tables", "break the circle"))


def topological_order(nodes: Sequence[Node], before: Mapping[str, Sequence[str]]) -> tuple[Node, ...]:
    """Return `nodes` so that each comes after what it waits for, otherwise in file order; FlowError on a cycle."""
    by_name = {node.name: node for node in nodes}
    return tuple(by_name[name] for name in _sorted(before, by_name, "steps", "break the circle, or use a loop"))


def _sorted(
    before: Mapping[str, Sequence[str]], by_name: Mapping[str, Node | Table], kind: str, remedy: str
) -> Iterator[str]:
    """Yield the names of `by_name` so that each comes after those before it, otherwise in its order."""
    position = {name: index for index, name in enumerate(by_name)}
    sorter = TopologicalSorter(before)
    try:
        sorter.prepare()
    except CycleError as error:
        cycle: list[str] = list(reversed(error.args[1]))
        raise FlowError(
            f"the {kind} wait for each other in a circle: {_shown(cycle, by_name)}",
            where=by_name[cycle[0]].location,
            hint=f"an arrow means 'waits for'; {remedy}",
        ) from error
    ready: list[tuple[int, str]] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heappush(ready, (position[name], name))
        _, name = heappop(ready)
        yield name
        sorter.done(name)


def _shown(cycle: Sequence[str], by_name: Mapping[str, Node | Table]) -> str:
    """Return a circle with the tables that the user wrote in the place of what they stand for."""
    names = (one.block if isinstance(one := by_name[name], Table) else name for name in cycle)
    written = [name for name, _ in groupby(names)]
    return " -> ".join(written if len(written) > 1 else 2 * written)
