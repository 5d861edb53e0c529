"""The rows of a flow's tables before anything has run: those of inputs, and those of queries over inputs alone.

Owns which queries an estimate runs, and for how long. What rows steps will make nobody knows here.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from threading import Timer
from typing import Any

from sundog.errors import CallError, RunError
from sundog.execution.input_row import BadRow
from sundog.ir.logical import LogicalPlan, Table
from sundog.ir.physical import FilterExec, PhysicalPlan, TableExec, TypedColumn
from sundog.ir.query_forms import QueryForm
from sundog.ir.tables import CollectedRows, ComponentRows, FirstRows, InputRows, QueryRows
from sundog.ir.templates.render import render_condition, render_json
from sundog.ir.values.normal_form import NoNormalForm, encode
from sundog.measured.plan_costs import SampledRows
from sundog.runtime.rows.inputs import RowSource
from sundog.runtime.tables.flow_inputs import FlowInputs

MAX_QUERY_S = 5.0
"""A query that takes longer is left to the run."""
MAX_LOADED_ROWS = 20_000
"""A table of more rows is not computed for the queries that read it."""
KnownRows = tuple[SampledRows, int]


@dataclass(frozen=True, slots=True)
class _Found:
    """The rows of one table."""

    #: The table, and those that it reads: what decides its rows.
    made_of: tuple[Table, ...]
    #: Both None where steps decide its rows.
    known: KnownRows | None
    source: RowSource | None


class TableRowsBeforeRuns:
    """The rows of tables over one opening of the inputs, which stays open meanwhile. Its methods raise InputError."""

    def __init__(
        self, inputs: FlowInputs, plan: PhysicalPlan, max_rows: int, max_characters: int, num_first: int | None
    ) -> None:
        """`plan`: the flow's, whose tables have types. `max_rows`, `max_characters`: of the sample of each table.
        `num_first`: how many rows the first input is taken to have, None for those that it has."""
        self.notes: tuple[str, ...] = ()
        self._inputs = inputs
        self._written: LogicalPlan = plan.written
        self._columns: Mapping[str, tuple[TypedColumn, ...]] = {table.name: table.columns for table in plan.tables}
        self._sizes = max_rows, max_characters
        self._num_first = num_first
        self._found: list[_Found] = []
        self._loaded: dict[str, tuple[Table, ...]] = {}
        self._placed_rows: list[tuple[tuple[Table, ...], RowSource | None]] = []

    def known(self, plan: PhysicalPlan, table: TableExec) -> KnownRows | None:
        """Return a sample of the rows of a table and how many there are; None where steps decide that."""
        return self._find(plan, table).known

    def source(self, plan: PhysicalPlan, table: TableExec) -> RowSource | None:
        """Return the rows of a table, None where steps decide them."""
        return self._find(plan, table).source

    def counted(self, plan: PhysicalPlan, table: TableExec) -> int | None:
        """Return how many rows a table has that gives each row of its source a place whatever steps make of it."""
        source = self._placed(plan, table)
        return None if source is None else source.count()

    def tell_pairs(self, plan: PhysicalPlan) -> None:
        """Add what a run will tell of pairs before it judges them to `notes`, where the pairs are known."""
        for table in plan.tables:
            # A reader may take some of the pairs only: the run tells of those.
            is_whole = table.table.candidates is not None and table.table.take is None
            source = self.source(plan, table) if is_whole else None
            if source is None:
                continue
            from sundog.runtime.tables.candidates import told_pairs  # what reads queries, which few flows have

            for one in plan.tables:
                if one.name in table.table.reads:
                    self._load(plan, one)
            relations = self._inputs.relations
            told = relations.with_room(partial(told_pairs, table.table, source, None, relations))
            self.notes += (told.note, *told.warnings)

    def num_input_rows(self, name: str) -> int:
        """Return how many rows an input has that a query reads."""
        return self._scaled({name}, self._inputs.alone(name).count())

    def form(self, table: TableExec) -> QueryForm:
        """Return the form of the query of a table."""
        from sundog.queries.form import form_of  # what reads queries, which few flows have
        from sundog.queries.parsed import parse_query

        match table.table.source:
            case QueryRows(sql=sql):
                return form_of(parse_query(sql))
            case CollectedRows(reads=(one,)):
                # Each of its rows is in one group, whatever the query does to find out in which.
                return QueryForm((one,), is_grouped=True)
            case CollectedRows(sql=sql):
                return QueryForm((form_of(parse_query(sql)),), is_grouped=True)
            case ComponentRows(nodes=sql):
                return form_of(parse_query(sql))
        raise AssertionError(f"the rows of '{table.name}' are those of an input")

    def _find(self, plan: PhysicalPlan, table: TableExec) -> _Found:
        made_of = _made_of(plan, table)
        found = next((one for one in self._found if one.made_of == made_of), None)
        if found is None:
            is_of_input = isinstance(table.table.source, InputRows)
            source = self._inputs.source(self._written.table(table.name)) if is_of_input else self._queried(plan, table)
            known = None
            if source is not None:
                num_rows = self._scaled({name for one in made_of for name in one.reads}, source.count())
                known = self._taken(table, source, self._sampled(source), num_rows)
            found = _Found(made_of, known, source)
            self._found.append(found)
        return found

    def _sampled(self, source: RowSource) -> SampledRows:
        """Return the sample of a source. That of an input serves every plan, whatever its steps are: files are gone
        through once."""
        kept = next((one.known[0] for one in self._found if one.source is source and one.known is not None), None)
        return source.sampled(*self._sizes) if kept is None else kept

    def _taken(self, table: TableExec, source: RowSource, sample: SampledRows, num_rows: int) -> KnownRows:
        """Return the rows of a table that may not want all of them. Of many rows that must be looked at, all count."""
        take, num_all = table.table.take, source.count()
        if take is None:
            return sample, num_rows
        if isinstance(take, FirstRows):
            return sample[: take.num_rows], min(take.num_rows, num_rows)
        if num_all > MAX_LOADED_ROWS:
            return sample, num_rows
        from sundog.runtime.tables.wanted_rows import wanted_rows  # what reads queries, which few flows have

        numbers = wanted_rows(table.table, self._columns[table.name], source, self._inputs.relations)
        if numbers is None:
            return sample, num_rows
        some = [row for row in sample if row[0] in numbers]
        rows = (row for batch in source.batches() for row in batch if row[0] in numbers)
        first = ((number, row) for number, row in rows if not isinstance(row, BadRow))
        return some or list(islice(first, 1)), round(num_rows * len(numbers) / max(1, num_all))

    def _scaled(self, read: Collection[str], num_rows: int) -> int:
        """Return how many rows are made of the inputs `read` where the first input is taken to have another number of
        them."""
        if self._num_first is None or self._written.inputs[0].name not in read or not num_rows:
            return num_rows
        return max(1, round(num_rows * self._num_first / max(1, self._inputs.first.count())))

    def _queried(self, plan: PhysicalPlan, table: TableExec) -> RowSource | None:
        """Return the rows of a query over inputs, and over tables whose outputs no step fills."""
        read = [one for one in plan.tables if one.name in table.table.reads]
        if not all(self._is_loadable(plan, one) for one in read):
            return None
        from sundog.runtime.tables.made import made_rows, make  # what reads queries, which few flows have

        relations, folder = self._inputs.relations, self._folder / str(len(self._found))
        folder.mkdir()
        for name in table.table.reads:
            if name not in {one.name for one in read}:
                relations.load_input(name)
        for one in read:
            self._load(plan, one)
        limit = Timer(MAX_QUERY_S, relations.interrupt)
        limit.start()
        try:
            relations.with_room(partial(make, table.table, relations, folder))
        except RunError as error:
            late = f"takes longer than {MAX_QUERY_S:g} s"
            why = late if limit.finished.is_set() else f"fails ({error.what})"
            self.notes += (f"the query of the table '{table.name}' {why}: its rows are guessed",)
            return None
        finally:
            limit.cancel()
        return made_rows(table.table, folder)

    def _placed(self, plan: PhysicalPlan, table: TableExec) -> RowSource | None:
        """Return the rows of a table that marks failed rows, of which only the columns of its groups are true: these
        follow from columns that its source's rows have before their steps."""
        if table.table.failed_rows != "mark":
            return None
        made_of = _made_of(plan, table)
        kept = next((one for one in self._placed_rows if one[0] == made_of), None)
        if kept is None:
            read = plan.table(table.table.reads[-1])
            source = self._find(plan, read).source or self._placed(plan, read)
            is_small = source is not None and source.count() <= MAX_LOADED_ROWS
            drops = any(isinstance(node, FilterExec) and node.filter.reason is None for node in read.nodes)
            placed = None
            if source is not None and is_small and not drops and read.columns:
                placed = self._made_of_places(table.table, read, source)
            kept = made_of, placed
            self._placed_rows.append(kept)
        return kept[1]

    def _made_of_places(self, table: Table, read: TableExec, source: RowSource) -> RowSource | None:
        from sundog.runtime.tables.made import made_rows, make_marked  # as above

        folder = self._folder / f"placed-{len(self._placed_rows)}"
        folder.mkdir()
        columns = tuple((column.name, column.type) for column in read.columns)
        rows = ((line, ()) for line in _places(read.table, source))
        try:
            make_marked(table, columns, rows, self._inputs.relations, folder)
        except RunError:
            return None
        return made_rows(table, folder)

    @cached_property
    def _folder(self) -> Path:
        """The rows of queries, for as long as this object is there."""
        path = Path(tempfile.mkdtemp(prefix="sundog-"))
        weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)
        return path

    def _is_loadable(self, plan: PhysicalPlan, table: TableExec) -> bool:
        is_plain = all(isinstance(node, FilterExec) for node in table.nodes)
        if not is_plain or not self._columns.get(table.name):
            return False
        found = self.known(plan, table)
        return found is not None and found[1] <= MAX_LOADED_ROWS

    def _load(self, plan: PhysicalPlan, table: TableExec) -> None:
        """Make a table a relation; its outputs read nothing but the rows that it is made of."""
        made_of = _made_of(plan, table)
        if self._loaded.get(table.name) == made_of:
            return
        source = self._find(plan, table).source
        assert source is not None, f"the rows of '{table.name}' are known"
        columns = tuple((column.name, column.type) for column in self._columns[table.name])
        relations = self._inputs.relations
        relations.with_room(lambda: relations.load(table.name, columns, _lines(table, plan.logical.constants, source)))
        self._loaded[table.name] = made_of


def _made_of(plan: PhysicalPlan, table: TableExec) -> tuple[Table, ...]:
    """Return a table and all that it is made of."""
    by_name = {one.name: one for one in plan.tables}
    above = [made for name in table.table.reads if name in by_name for made in _made_of(plan, by_name[name])]
    return (table.table, *above)


def _lines(table: TableExec, constants: Mapping[str, Any], source: RowSource) -> Iterator[bytes]:
    """Yield the rows of a table without calls as they end."""
    for batch in source.batches():
        for _, row in batch:
            line = None if isinstance(row, BadRow) else _line(table, {**constants, "row": row})
            if line is not None:
                yield line


def _places(table: Table, source: RowSource) -> Iterator[bytes]:
    """Yield the rows of a table with the columns that are its row's own."""
    for batch in source.batches():
        for _, row in batch:
            if not isinstance(row, BadRow):
                yield encode({name: row[column] for name, column in table.untouched.items() if column in row})


def _line(table: TableExec, scope: Mapping[str, Any]) -> bytes | None:
    try:
        for node in table.nodes:
            if isinstance(node, FilterExec) and not render_condition(node.filter.predicate, scope):
                return None
        return encode({name: render_json(template, scope) for name, template in table.table.outputs})
    except (CallError, NoNormalForm):
        # The row fails, and no table that reads this one has it.
        return None
