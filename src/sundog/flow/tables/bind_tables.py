"""The tables of a flow: written sections to plan tables.

Owns what concerns one table by itself and the tables among each other: sources, queries, columns, results. What a node
is, is flow.nodes' affair; what a query may say, that of the room `queries`. Opens no input: what only the types of
columns tell is found when the inputs are opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from sundog.errors import FlowError, Location, suggest
from sundog.flow.complaints import Complaints
from sundog.flow.expansions.catalog import EXPANSIONS
from sundog.flow.names import Names
from sundog.flow.nodes import NodeBinder, nodes_bound
from sundog.flow.positions import DataPath, Positions
from sundog.flow.references import ANY_ROW, ReferenceCheck
from sundog.flow.secret_check import check_no_secrets
from sundog.flow.spec import FlowSpec, OutputSpec
from sundog.flow.steps.node_draft import NodeDraft
from sundog.flow.tables.table_spec import TableSpec
from sundog.flow.taken import Taken
from sundog.flow.validation import known_keys, read
from sundog.ir.graph import table_order
from sundog.ir.logical import Table
from sundog.ir.schemas.shape import Anything, Record
from sundog.ir.tables import CollectedRows, ComponentRows, InputRows, QueryRows, TableSource
from sundog.ir.templates.template import Template, column_of_row
from sundog.queries.check import complaints_of
from sundog.queries.columns import output_columns
from sundog.queries.marked import why_not_marked
from sundog.queries.parsed import UnreadableQuery, parse_query
from sundog.queries.select_parts import RESERVED

_NAMES_READ = ("from", "source", "left", "right")
_QUERIES_READ = ("query", "nodes", "edges")
Columns = tuple[tuple[str, Template], ...]


class TableBinder:
    """This class makes the tables of one flow. What is wrong goes to `complaints`, and what it returns then is of no
    use."""

    def __init__(
        self,
        positions: Positions,
        complaints: Complaints,
        names: Names,
        nodes: NodeBinder,
        taken: Taken,
        made_by: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`taken`: the parts of the flow, with tables of other flows. `made_by`: the words that tables came from which
        the user did not write so."""
        self._made_by = made_by
        self._positions = positions
        self._complaints = complaints
        self._names = names
        self._nodes = nodes
        self._inputs = list(taken.inputs)
        self._constants = taken.constants
        self._others = taken.tables
        #: By table the columns that its failed rows have too, None for all.
        self._untouched: dict[str, tuple[str, ...] | None] = {
            name: tuple(table.untouched) for name, table in self._others.items()
        }
        #: By table, as far as they are known; those of inputs are not.
        self._columns = {
            name: tuple(column for column, _ in table.outputs) for name, table in self._others.items() if table.outputs
        }

    def bound(
        self, flow: FlowSpec, written: Sequence[str]
    ) -> tuple[tuple[Table, ...], tuple[str, ...], Sequence[NodeDraft]]:
        """Return the tables, the names of those that are results, and the drafts of all nodes. `written`: the names of
        the tables that the flow has, those of other flows last."""
        for section in ("nodes", "outputs"):
            if getattr(flow, section):
                hint = f"write `{section}` inside a table"
                self._complaints.add(f"a flow with tables has no {section} of its own", self._key((section,)), hint)
        self._check_names(flow)
        specs = {name: spec for name, data in flow.tables.items() if (spec := self._read(name, data))}
        # Tables of other flows that could not be taken are known too: where they were to be, that is told.
        known = {**dict.fromkeys(written), **flow.tables, **self._others}
        sources = {name: self._source(name, spec, known) for name, spec in specs.items()}
        drafts = {name: self._nodes.drafts(spec.nodes, (*_place(name), "nodes")) for name, spec in specs.items()}
        made = {name: self._table(name, specs[name], sources[name], drafts) for name in self._order(sources, flow)}
        every = [draft for of_table in drafts.values() for draft in of_table]
        tables = (*self._others.values(), *(made[name] for name in specs))
        return tables, self._results(flow, tables, written), every

    def _results(self, flow: FlowSpec, tables: Sequence[Table], written: Sequence[str]) -> tuple[str, ...]:
        """Return the tables whose rows are asked for: as written, else those that no other reads."""
        if flow.results is None:
            read_by_others = {name for table in tables for name in table.reads}
            return tuple(name for name in written if name not in read_by_others)
        for index, name in enumerate(flow.results):
            where = self._positions.value(("results", index))
            if name not in written:
                self._complaints.add(f"there is no table '{name}'", where, suggest(name, written))
            elif name in flow.results[:index]:
                self._complaints.add(f"the table '{name}' is named twice", where)
        if not flow.results:
            hint = "leave 'results' out for the tables that no other table reads"
            self._complaints.add("a flow needs a result", self._key(("results",)), hint)
        return flow.results

    def _check_names(self, flow: FlowSpec) -> None:
        """Check that SQL, which does not tell capitals from small letters, tells all relations apart."""
        seen = {name.lower(): name for name in (*self._inputs, *self._others)}
        for name in flow.tables:
            where = self._key(_place(name))
            self._names.give(name, "table", where)
            if RESERVED in name and name not in self._made_by:
                self._complaints.add(f"'{name}' cannot name a table: two underscores are for made tables", where)
            other = seen.setdefault(name.lower(), name)
            if other != name:
                what = f"'{name}' and '{other}' differ only in capital letters, which SQL does not tell apart"
                self._complaints.add(what, where, "rename one of them")

    def _read(self, name: str, data: Any) -> TableSpec | None:
        words = [*known_keys(TableSpec), *EXPANSIONS]
        keys = data if isinstance(data, dict) else ()
        unknown = {key: hint for key in keys if key not in words and (hint := suggest(key, words))}
        spec = read(TableSpec, data, _place(name), self._positions, self._complaints, unknown)
        if spec is not None:
            check_no_secrets(spec.outputs, (*_place(name), "outputs"), self._positions, self._complaints)
            for word in ("query", "collect", "components"):
                check_no_secrets(data.get(word), (*_place(name), word), self._positions, self._complaints)
        return spec

    def _source(self, name: str, spec: TableSpec, tables: Mapping[str, Any]) -> TableSource:
        place, is_made = _place(name), name in self._made_by
        if spec.query is not None:
            return self._query(spec.query, (*place, "query"), tables, is_made=is_made)
        if spec.collect is not None:
            query = self._query(spec.collect.query, (*place, "collect", "query"), tables, is_made=is_made)
            self._check_name(spec.collect.as_, self._positions.value((*place, "collect", "as")))
            of_spec = spec.collect
            return CollectedRows(
                query.sql, query.reads, of_spec.by, of_spec.as_, of_spec.max_group_rows, of_spec.order_by
            )
        if spec.components is not None:
            nodes = self._query(spec.components.nodes, (*place, "components", "nodes"), tables)
            edges = self._query(spec.components.edges, (*place, "components", "edges"), tables)
            reads = tuple(dict.fromkeys(nodes.reads + edges.reads))
            return ComponentRows(nodes.sql, edges.sql, reads, spec.components.max_nodes)
        assert spec.from_ is not None
        return self._input(spec.from_, place, tables)

    def _input(self, name: str, place: DataPath, tables: Mapping[str, Any]) -> InputRows:
        if name not in self._inputs:
            where = self._positions.value((*place, "from"))
            if name in tables:
                hint = f'write query: "select * from {name}"'
                self._complaints.add(f"'from' names an input, and '{name}' is a table", where, hint)
            else:
                self._complaints.add(f"there is no input '{name}'", where, suggest(name, self._inputs))
        return InputRows(name)

    def _query(self, sql: str, place: DataPath, tables: Mapping[str, Any], *, is_made: bool = False) -> QueryRows:
        try:
            query = parse_query(sql)
        except UnreadableQuery as error:
            self._complaints.add(error.what, self._inside(place, sql, error.offset), error.hint)
            return QueryRows(sql, ())
        for one in complaints_of(query, [*self._inputs, *tables], self._constants, is_made=is_made):
            self._complaints.add(one.what, self._inside(place, sql, one.offset), one.hint)
        return QueryRows(query.sql, query.reads)

    def _order(self, sources: Mapping[str, TableSource], flow: FlowSpec) -> list[str]:
        """Return the tables so that each comes after those that it reads; as written where they form a circle, which
        tables with other mistakes may be part of."""
        every = {name: sources.get(name) or QueryRows("", _read_by(data)) for name, data in flow.tables.items()}
        drafts = [
            Table(name, source, (), (), made_by=self._made_by.get(name), location=self._key(_place(name)))
            for name, source in every.items()
        ]
        try:
            return [table.name for table in table_order(drafts) if table.name in sources]
        except FlowError as error:
            where = error.where if isinstance(error.where, Location) else self._key(("tables",))
            # A table that is called as an input is may only seem to read itself.
            is_sure = not set(flow.tables).intersection(self._inputs)
            self._complaints.add(error.what, where, error.hint, comes_first=is_sure)
            return list(sources)

    def _table(
        self, name: str, spec: TableSpec, source: TableSource, drafts: Mapping[str, Sequence[NodeDraft]]
    ) -> Table:
        """Return one table. Those that it reads have been made."""
        place = _place(name)
        is_marking = spec.failed_rows == "mark" and name not in self._made_by
        columns = self._columns_of(source, place, is_marking=is_marking)
        row = ANY_ROW if columns is None else Record(tuple((column, Anything()) for column in columns))
        outputs = self._outputs(spec.outputs, place)
        if not spec.outputs:
            outputs = self._same_columns(name, spec, columns)
        hints = {
            draft.name: f"it is a step of the table '{other}': read its columns by a query"
            for other, of_table in drafts.items()
            if other != name
            for draft in of_table
        }
        check = ReferenceCheck(self._positions, self._complaints, source, row, hints)
        check.check(drafts[name], self._constants, outputs, (*place, "outputs"))
        self._check_columns(spec, outputs, place)
        self._columns[name] = tuple(column for column, _ in outputs)
        table = Table(
            name,
            source,
            nodes_bound(drafts[name]),
            outputs,
            spec.types,
            spec.failed_rows,
            spec.max_rows,
            made_by=self._made_by.get(name),
            location=self._key(place),
        )
        self._untouched[name] = tuple(table.untouched) if outputs else None
        return table

    def _check_marks(self, source: CollectedRows, place: DataPath) -> None:
        """Check that a row that failed belongs to the group to which it will belong when it is mended."""
        (name, *others), where = source.reads or ("",), self._key((*place, "failed_rows"))
        if name in self._inputs and not others:
            hint = "read a table that has steps, or take out 'failed_rows'"
            self._complaints.add(f"'failed_rows: mark' marks rows that failed, and '{name}' is an input", where, hint)
            return
        if why := why_not_marked(parse_query(source.sql), self._untouched.get(name), source.by):
            hint = "collect by columns that are nothing but `{{ row.NAME }}`, and join in a table before it"
            self._complaints.add(f"the query of a table with 'failed_rows: mark' is wrong: {why}", where, hint)

    def _columns_of(self, source: TableSource, place: DataPath, *, is_marking: bool = False) -> tuple[str, ...] | None:
        """Return the columns that a row has; None where they are not known yet, and where the query was refused.
        `is_marking`: groups with failed rows are marked."""
        if isinstance(source, ComponentRows):
            return ("id", "component")
        if isinstance(source, InputRows):
            return None
        try:
            columns = output_columns(parse_query(source.sql), self._columns)
        except UnreadableQuery:
            return None
        if columns is None or isinstance(source, QueryRows):
            return columns
        if mistake := source.mistake_over(columns):
            self._complaints.add(mistake[0], self._key((*place, "collect", "by")), mistake[1])
        elif is_marking:
            self._check_marks(source, place)
        return (*source.by, source.as_)

    def _same_columns(self, name: str, spec: TableSpec, columns: Sequence[str] | None) -> Columns:
        """Return the query's own columns as outputs; none where only the inputs tell which these are."""
        if spec.from_ is not None or spec.nodes:
            self._complain(f"the table '{name}' needs outputs: its columns", _place(name))
        return tuple((column, Template(f"{{{{ {column_of_row(column)} }}}}")) for column in columns or ())

    def _outputs(self, written: Mapping[str, Any], place: DataPath) -> Columns:
        return tuple(
            (name, output.root)
            for name, data in written.items()
            if (output := read(OutputSpec, data, (*place, "outputs", name), self._positions, self._complaints))
        )

    def _check_columns(self, spec: TableSpec, outputs: Columns, place: DataPath) -> None:
        seen: dict[str, str] = {}
        for column, _ in outputs:
            where = self._key((*place, "outputs", column))
            self._check_name(column, where)
            other = seen.setdefault(column.lower(), column)
            if other != column:
                what = f"'{column}' and '{other}' differ only in capital letters, which SQL does not tell apart"
                self._complaints.add(what, where, "rename one of them")
        known = [column for column, _ in outputs]
        for column in spec.types:
            if known and column not in known:
                where = self._key((*place, "types", column))
                self._complaints.add(f"there is no column '{column}' to give a type", where, suggest(column, known))

    def _check_name(self, column: str, where: Location) -> None:
        if column.lower() == "rowid" or column.startswith(RESERVED):
            self._complaints.add(f"'{column}' cannot name a column of a table", where, "choose another name")

    def _inside(self, place: DataPath, sql: str, offset: int) -> Location:
        """Return where a character of a query stands in the file, whose lines may be broken and indented otherwise."""
        before = r"\s+".join(map(re.escape, sql[:offset].split()))
        return self._positions.match(place, re.compile(rf"{before}\s*(?P<at>{re.escape(sql[offset : offset + 1])})"))

    def _key(self, path: DataPath) -> Location:
        return self._positions.key(path)

    def _complain(self, what: str, path: DataPath) -> None:
        self._complaints.add(what, self._key(path))


def _read_by(data: Any) -> tuple[str, ...]:
    """Return what a table reads whose section is wrong in some other way, as far as that can be told."""
    if not isinstance(data, Mapping):
        return ()
    found: list[str] = []
    for key, value in data.items():
        if isinstance(value, Mapping) and key not in ("nodes", "outputs", "types"):
            found += _read_by(value)
        elif isinstance(value, str) and key in _NAMES_READ:
            found.append(value)
        elif isinstance(value, str) and key in _QUERIES_READ:
            with suppress(UnreadableQuery):
                found += parse_query(value).reads
    return tuple(found)


def _place(name: str) -> DataPath:
    return ("tables", name)
