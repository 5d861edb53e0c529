"""The queries of a plan's tables, and what they read of each other.

Owns the way from a table to its queries and back. What a query says is the affair of the room `queries`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sundog.ir.logical import LogicalPlan, Table
from sundog.ir.tables import CollectedRows, ComponentRows, QueryRows
from sundog.queries.columns import Schema, columns_read
from sundog.queries.parsed import Query, parse_query


def queries_of(table: Table) -> tuple[Query, ...]:
    """Return the queries that a table is made by; none where it is made of an input, row by row."""
    match table.source:
        case QueryRows(sql=sql) | CollectedRows(sql=sql):
            return (parse_query(sql),)
        case ComponentRows(nodes=nodes, edges=edges):
            return parse_query(nodes), parse_query(edges)
    return ()


def with_queries(table: Table, queries: Sequence[Query]) -> Table:
    """Return `table` with other queries, as many as it has."""
    reads = tuple(dict.fromkeys(name for query in queries for name in query.reads))
    match table.source, queries:
        case (QueryRows() | CollectedRows()) as source, (query,):
            return replace(table, source=replace(source, sql=query.sql, reads=reads))
        case ComponentRows() as source, (nodes, edges):
            return replace(table, source=replace(source, nodes=nodes.sql, edges=edges.sql, reads=reads))
    return table


def readers_of(plan: LogicalPlan, name: str) -> list[Table]:
    return [table for table in plan.tables if name in table.reads]


def columns_of_tables(plan: LogicalPlan) -> Schema:
    """Return the columns of all tables; those of inputs are not known."""
    return {table.name: [name for name, _ in table.outputs] for table in plan.tables}


def output_columns_read(plan: LogicalPlan, name: str) -> frozenset[str] | None:
    """Return the columns of a table that queries read, in small letters; None for all, or where that is not certain."""
    schema, found = columns_of_tables(plan), frozenset[str]()
    for reader in readers_of(plan, name):
        for query in queries_of(reader):
            read = columns_read(query, name, schema) if name in query.reads else frozenset()
            if read is None:
                return None
            found |= {column.lower() for column in read}
    return found
