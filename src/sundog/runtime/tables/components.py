"""Connected components of a graph whose nodes and edges two queries give.

Owns the closure. Memory holds two numbers for each node, and no edge.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from sundog.errors import FlowError, RunError
from sundog.ir.logical import Table
from sundog.ir.sql_types import PlainType
from sundog.ir.tables import ComponentRows
from sundog.queries.parsed import parse_query
from sundog.runtime.rows.duck import fetched
from sundog.runtime.tables.column_types import ColumnTypes
from sundog.runtime.tables.relations import Relations

_MAX_SHOWN = 5
WHOLE = PlainType("BIGINT")
COLUMNS: ColumnTypes = (("id", WHOLE), ("component", WHOLE))
_IDS = frozenset(map(PlainType, ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")))


def check_graph(table: Table, nodes: ColumnTypes, edges: ColumnTypes) -> None:
    """Raise FlowError unless `nodes` is a column of ids and `edges` are two of them."""
    for what, columns, number in (("nodes", nodes, 1), ("edges", edges, 2)):
        if len(columns) != number:
            raise FlowError(
                f"`{what}` of the table '{table.name}' gives {len(columns)} columns, and needs {number}",
                where=table.location,
                hint="nodes are ids, and edges pairs of ids",
            )
        for name, type in columns:
            if type not in _IDS:
                raise FlowError(
                    f"the column '{name}' of `{what}` in the table '{table.name}' holds no whole numbers",
                    where=table.location,
                    hint=f"write {name}::bigint, or number the rows: row_number() over (order by ...)",
                )


def component_lines(table: Table, source: ComponentRows, relations: Relations) -> Iterator[bytes]:
    """Yield a line of JSON for each node, by id, with the smallest id of its component. RunError for ids that are
    missing or not different, and for edges between other ids."""
    with relations.kept(table, parse_query(source.nodes)) as kept:
        ids = array("q")
        for rows in fetched(kept.cursor, f"SELECT columns(*) AS id FROM {kept.name} ORDER BY id NULLS FIRST"):
            for (one,) in rows:
                if one is None or (ids and one == ids[-1]):
                    what = "a node has no id" if one is None else f"two nodes have the id {one}"
                    raise _mistake(table, what)
                ids.append(one)
    parents = array("q", range(len(ids)))
    with relations.kept(table, parse_query(source.edges)) as kept:
        for rows in fetched(kept.cursor, f"SELECT * FROM {kept.name}"):
            for edge in rows:
                one, other = (_root(parents, _place(table, ids, id)) for id in edge)
                # Roots are the smallest nodes of what has been joined so far.
                parents[max(one, other)] = min(one, other)
    _check_sizes(table, source, ids, parents)
    for place, one in enumerate(ids):
        yield b'{"id":%d,"component":%d}\n' % (one, ids[_root(parents, place)])


def _check_sizes(table: Table, source: ComponentRows, ids: Sequence[int], parents: array[int]) -> None:
    if source.max_nodes is None or not ids:
        return
    root, size = Counter(_root(parents, place) for place in range(len(ids))).most_common(1)[0]
    if size > source.max_nodes:
        found = (str(one) for place, one in enumerate(ids) if _root(parents, place) == root)
        raise RunError(
            f"a component of the table '{table.name}' has {size:,} nodes, more than {source.max_nodes:,}: "
            f"{', '.join(islice(found, _MAX_SHOWN))}, ...",
            where=table.location,
            hint="one wrong edge joins two components: look at the edges, or raise the limit",
        )


def _place(table: Table, ids: Sequence[int], wanted: int | None) -> int:
    place = len(ids) if wanted is None else bisect_left(ids, wanted)
    if place == len(ids) or ids[place] != wanted:
        raise _mistake(table, f"an edge names the node {'null' if wanted is None else wanted}, which is not there")
    return place


def _root(parents: array[int], node: int) -> int:
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


def _mistake(table: Table, what: str) -> RunError:
    hint = "`nodes` gives each id once, and `edges` gives pairs of them"
    return RunError(f"the graph of the table '{table.name}' is none: {what}", where=table.location, hint=hint)
