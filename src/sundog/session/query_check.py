"""The columns of a flow's tables and their types, known before the first call.

Owns what fills a column and so what type it has. No value decides a type: which rows come must not change it. DuckDB
checks the queries against these types; what they may say at all was checked when the flow was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sundog.errors import FlowError
from sundog.flow.columns import check_columns
from sundog.flow.node_shapes import shapes_of
from sundog.ir.graph import table_order
from sundog.ir.logical import LogicalPlan, Table
from sundog.ir.physical import PhysicalPlan, TypedColumn
from sundog.ir.schemas.shape import Anything, ListOf, Record, Shape
from sundog.ir.sql_types import JSON, VARCHAR, ListType, PlainType, SQLType, StructType, spell_type, type_of_shape
from sundog.ir.tables import CollectedRows, ComponentRows, InputRows, QueryRows
from sundog.ir.templates.template import ROW, Path, Reference, Template, column_of_row
from sundog.operators.base import Operator
from sundog.queries.parsed import parse_query
from sundog.runtime.tables.collected import collected_columns
from sundog.runtime.tables.components import COLUMNS, check_graph
from sundog.runtime.tables.relations import Relations

TableColumns = Mapping[str, tuple[TypedColumn, ...]]
"""The columns of each table, by its name."""
_WHOLE_NUMBERS = {
    PlainType(name) for name in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
}


def check_queries(
    plan: LogicalPlan, operators: Mapping[str, Operator], relations: Relations
) -> tuple[LogicalPlan, TableColumns]:
    """Return `plan`, where a table without outputs has the columns of its query, and the columns of all tables.

    FlowError for what the types of columns show to be wrong, InputError for an input that cannot be read, and for a
    column that a template reads and its query lacks. `relations` has an empty relation for each table afterwards.
    """
    columns: dict[str, tuple[TypedColumn, ...]] = {}
    for table in table_order(plan.tables):
        row = _row_of(table, relations)
        if not table.outputs:
            table = _with_columns_of(table, row)
            plan = plan.with_table(table)
        if not isinstance(table.source, InputRows):
            check_columns(table, (), Record(tuple((name, Anything()) for name in row)))
        columns[table.name] = _columns_of(table, row, shapes_of(table, operators), relations)
        relations.declare(table.name, tuple((column.name, column.type) for column in columns[table.name]))
    return plan, columns


def with_columns(plan: PhysicalPlan, columns: TableColumns) -> PhysicalPlan:
    """Return `plan` with the types of those columns that a query reads, or that the flow gives a type."""
    read = {name for table in plan.logical.tables for name in table.reads}
    tables = []
    for table in plan.tables:
        of_outputs = {name for name, _ in table.table.outputs}
        wanted = of_outputs if table.name in read else of_outputs & table.table.types.keys()
        found = tuple(column for column in columns[table.name] if column.name in wanted)
        tables.append(replace(table, columns=found))
    return replace(plan, tables=tuple(tables))


def _row_of(table: Table, relations: Relations) -> dict[str, SQLType]:
    """Return the columns of the rows that a table is made of. The tables that it reads are declared."""
    if isinstance(table.source, InputRows):
        return dict(relations.input_columns(table.source.input))
    for name in table.reads:
        relations.declare_input(name)
    match table.source:
        case ComponentRows(nodes=nodes, edges=edges):
            described = (relations.describe(table, parse_query(sql)) for sql in (nodes, edges))
            check_graph(table, *described)
            return dict(COLUMNS)
        case CollectedRows(sql=sql) as source:
            columns = relations.describe(table, parse_query(sql))
            if mistake := source.mistake_over([name for name, _ in columns]):
                raise FlowError(mistake[0], where=table.location, hint=mistake[1])
            _check_order(table, source, dict(columns))
            return dict(collected_columns(columns, source))
        case QueryRows(sql=sql):
            return dict(relations.describe(table, parse_query(sql)))


def _check_order(table: Table, source: CollectedRows, types: Mapping[str, SQLType]) -> None:
    if source.order_by is not None and types[source.order_by] not in _WHOLE_NUMBERS:
        raise FlowError(
            f"'order_by' needs whole numbers of at most 64 bits, and '{source.order_by}' is"
            f" {spell_type(types[source.order_by])}",
            where=table.location,
            hint=f"CAST({source.order_by} AS BIGINT), or order the query",
        )


def _with_columns_of(table: Table, row: Mapping[str, SQLType]) -> Table:
    outputs = tuple((name, Template(f"{{{{ {column_of_row(name)} }}}}")) for name in row)
    return replace(table, outputs=outputs)


def _columns_of(
    table: Table, row: Mapping[str, SQLType], shapes: Mapping[str, Shape], relations: Relations
) -> tuple[TypedColumn, ...]:
    found = []
    for name, template in table.outputs:
        path = _path_of(template)
        is_column = path is not None and path[0] == ROW and len(path) == 2
        if name in table.types:
            type = _given(table, name, relations)
            is_same = path is not None and is_column and row.get(path[1]) == type
            found.append(TypedColumn(name, type, is_checked=not is_same))
        elif path is not None and is_column:
            found.append(TypedColumn(name, row.get(path[1], JSON), is_checked=False))
        else:
            found.append(TypedColumn(name, _type_of(template, path, row, shapes), is_checked=True))
    return tuple(found)


def _given(table: Table, column: str, relations: Relations) -> SQLType:
    text = table.types[column]
    found = relations.type_named(text)
    if found is None:
        hint = "types are VARCHAR, BIGINT, DOUBLE, BOOLEAN, DATE, TIMESTAMP, JSON, T[] and STRUCT(name T)"
        what = f"`types` of the table '{table.name}' gives '{column}' the type '{text}', which no column can have"
        raise FlowError(what, where=table.location, hint=hint)
    return found


def _type_of(template: Template, path: Path | None, row: Mapping[str, SQLType], shapes: Mapping[str, Shape]) -> SQLType:
    """Return the type of what a template gives: text, what stands at a path, or anything."""
    if not template.is_expression:
        return VARCHAR
    if path is None:
        return JSON
    if path[0] == ROW and len(path) > 1:
        return _inside(row.get(path[1], JSON), path[2:])
    return type_of_shape(_shape_at(shapes.get(path[0], Anything()), path[1:]))


def _path_of(template: Template) -> Path | None:
    """Return the path of a template that is nothing but one."""
    match template.segments:
        case (Reference(path=path),) if template.is_expression:
            return path
    return None


def _inside(type: SQLType, path: Path) -> SQLType:
    """Return the type at `path` inside a value."""
    for key in path:
        match type:
            case StructType(fields=fields):
                type = dict(fields).get(key, JSON)
            case ListType(item=item) if key.isdigit():
                type = item
            case _:
                return JSON
    return type


def _shape_at(shape: Shape, path: Path) -> Shape:
    for key in path:
        match shape:
            case Record(fields=fields):
                shape = dict(fields).get(key, Anything())
            case ListOf(item=item) if key.isdigit():
                shape = item
            case _:
                return Anything()
    return shape
