"""The logical plan: tables of rows, and what must be computed for each row, as an immutable DAG.

Owns the node types. Never says how or where a step runs; that is ir.physical.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from sundog.errors import Location
from sundog.ir.tables import MAX_ROWS, Candidates, FirstRows, InputRows, MatchingRows, TableSource
from sundog.ir.templates.template import ROW, Path, Reference, Template


class OperatorSpec(BaseModel):
    """The text that the user wrote for one operator; every operator has its own subclass. Immutable by convention: a
    rewrite makes a new one with `model_copy`."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    # Fields whose text is taken as it is even where `${env:NAME}` may stand elsewhere are the operator's affair.
    allows_secrets: ClassVar[frozenset[str]] = frozenset()
    # Fields whose text, or that of the messages in them, may stand in a file: `{file: prompt.md}`.
    allows_files: ClassVar[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class ForEach:
    """Fan out over the list that `items` yields; each element is in scope as `variable`."""

    items: Template
    variable: str = "item"


@dataclass(frozen=True, slots=True)
class Step:
    """One operator, run once per row (or once per element with `for_each`)."""

    name: str
    operator: str
    spec: OperatorSpec
    when: Template | None = None
    for_each: ForEach | None = None
    #: Steps that must have ended first though no value of theirs is read.
    after: tuple[str, ...] = ()
    #: Seconds of one attempt; None takes the operator's default.
    timeout_s: float | None = None
    #: Further attempts after the first.
    retries: int | None = None
    #: None leaves sharing to the operator's rules.
    share: bool | None = None
    location: Location | None = field(default=None, compare=False)
    #: Calls that wait together may be one request.
    is_gathered: bool = False
    #: The longest wait before one that a server may ask for; None takes the engine's, or the default.
    max_retry_wait_s: float | None = None


MAX_RENDERED_TURNS = 1_000
"""The most turns that a loop may get from a template."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A body repeated until `until` holds or `max_turns` is reached.

    In the body, `loop.turn` counts from 1, `loop.last.<step>` is the value of the turn before (skipped in the first),
    and `loop.history.<step>` the list of those of all turns before. The loop's value: {"turns": int, "<step>": value of
    the last turn, ...}.
    """

    #: Its steps run in each turn, and are read by `loop` and by the loop's name; a subclass may have a body for another
    #: purpose.
    is_plain: ClassVar[bool] = True

    name: str
    body: tuple[Node, ...]
    #: A template gives it for each row, and each element of `for_each`, from 1 to MAX_RENDERED_TURNS.
    max_turns: int | Template
    until: Template | None = None
    when: Template | None = None
    for_each: ForEach | None = None
    after: tuple[str, ...] = ()
    location: Location | None = field(default=None, compare=False)

    @property
    def conditions(self) -> tuple[Template | None, ...]:
        return self.until, self.when


@dataclass(frozen=True, slots=True)
class Filter:
    """Rows for which `predicate` is false end here, without output and without running any later step."""

    name: str
    predicate: Template
    after: tuple[str, ...] = ()
    location: Location | None = field(default=None, compare=False)
    #: The reason why such a row has failed; None where it is dropped.
    reason: Template | None = None


@dataclass(frozen=True, slots=True)
class ValueNode:
    """A name for what a template gives. No call is made and nothing is committed: it follows from the row's values."""

    name: str
    template: Template
    when: Template | None = None
    for_each: ForEach | None = None
    after: tuple[str, ...] = ()
    location: Location | None = field(default=None, compare=False)


Node = Step | Loop | Filter | ValueNode


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """One entry of `workers`: `count` equal places, each for at most `max_resident` engines at once."""

    name: str
    count: int
    max_resident: int = 1
    usd_per_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineBlock:
    """One entry of `engines`."""

    name: str
    #: The name of the registry entry.
    kind: str
    #: Its validated options; secrets in them are still `${env:NAME}`.
    options: Mapping[str, Any]
    location: Location | None = field(default=None, compare=False)
    #: The group whose workers load it, None where its replicas stay loaded.
    workers: str | None = None


@dataclass(frozen=True, slots=True)
class InputSource:
    """One entry of `inputs`: exactly one of `path`, `query` and `call` is set.

    The first input drives: one row of it is one row of the run. Every other input is joined to it, and its row is
    `row.<name>` (null if unmatched).
    """

    name: str
    #: Csv, json, jsonl or parquet, globs allowed.
    path: str | None = None
    #: DuckDB SQL.
    query: str | None = None
    #: "module:function" that returns an iterable of dicts.
    call: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    #: The column of this input, and the driving column that it is joined to.
    key: tuple[str, str] | None = None
    #: DuckDB types of CSV columns that must not be guessed.
    types: Mapping[str, str] = field(default_factory=dict)
    location: Location | None = field(default=None, compare=False)
    #: The columns that rows shall have, None for all.
    columns: tuple[str, ...] | None = None
    #: The place of the array of rows in a JSON document, as in "items.rows"; None for the whole document.
    at: str | None = None


@dataclass(frozen=True, slots=True)
class RowKey:
    """A value of the row by which rows may be read."""

    #: As in ("row", "document").
    path: Path
    #: Prompts do not hold the value itself but a text that a tool finds by it.
    is_lookup: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A set of rows and what is computed for each of them."""

    #: "" in a flow that has one table only, which its user never names.
    name: str
    source: TableSource
    #: In the order written.
    nodes: tuple[Node, ...]
    #: In the order of columns.
    outputs: tuple[tuple[str, Template], ...]
    #: SQL types by output, where the flow gives them.
    types: Mapping[str, str] = field(default_factory=dict)
    #: The outcome where a row of a source failed and the query needs all rows: the run stops, or the row is left out;
    #: `mark` fails the group that the row belongs to.
    failed_rows: Literal["stop", "leave_out", "mark"] = "stop"
    #: A query that gives more rows ends the run.
    max_rows: int = MAX_ROWS
    #: The rows that are wanted, None for all.
    take: FirstRows | MatchingRows | None = None
    #: Rows with equal values there share prompt text, so they are better read side by side. It changes no answer, so
    #: plans that differ in nothing else are equal.
    row_order: tuple[RowKey, ...] = field(default=(), compare=False)
    #: The name of the expansion that made this table, None for one that the user wrote.
    made_by: str | None = None
    #: Set where its rows are pairs to judge, of which a run tells. It changes no answer.
    candidates: Candidates | None = field(default=None, compare=False)
    location: Location | None = field(default=None, compare=False)

    @property
    def reads(self) -> tuple[str, ...]:
        """The inputs and tables whose rows it is made of."""
        return self.source.reads

    @property
    def block(self) -> str:
        """The name of the table that the user wrote, where this one is a part of what it stands for."""
        return self.name if self.made_by is None else self.name.partition("__")[0]

    @property
    def untouched(self) -> dict[str, str]:
        """The outputs that are a column of the row and nothing else, each with that column."""
        found = {}
        for name, template in self.outputs:
            match template.segments:
                case (Reference(path=(first, column)),) if template.is_expression and first == ROW:
                    found[name] = column
        return found

    @property
    def joined(self) -> tuple[str, ...]:
        """The inputs whose columns are read through the row, as in `row.<input>.<column>`."""
        return self.source.joined if isinstance(self.source, InputRows) else ()


@dataclass(frozen=True, slots=True)
class LogicalPlan:
    """A bound flow."""

    name: str
    engines: tuple[EngineBlock, ...]
    inputs: tuple[InputSource, ...]
    constants: Mapping[str, Any]
    #: In the order written.
    tables: tuple[Table, ...]
    #: The names of the tables whose rows are asked for.
    results: tuple[str, ...]
    #: The places where engines are loaded; they change no answer.
    workers: tuple[WorkerGroup, ...] = ()
    #: The quantity that is made small in choosing when engines are loaded; it changes no answer.
    objective: str = "makespan"
    #: By pool of tools, how many calls it takes at once, where the flow says. It changes no answer either: with another
    #: limit a run is the same one, and its effects are the same.
    limits: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes of all tables. Their names differ over the whole flow."""
        return tuple(chain.from_iterable(table.nodes for table in self.tables))

    def engine(self, name: str) -> EngineBlock:
        return next(block for block in self.engines if block.name == name)

    def table(self, name: str) -> Table:
        return next(table for table in self.tables if table.name == name)

    def with_table(self, table: Table) -> LogicalPlan:
        """Return the plan with `table` in the place of the one of its name."""
        return replace(self, tables=tuple(table if one.name == table.name else one for one in self.tables))


def steps_of(nodes: Sequence[Node]) -> list[Step]:
    """Return all steps, those inside loops too, as written."""
    found: list[Step] = []
    for node in nodes:
        match node:
            case Step():
                found.append(node)
            case Loop():
                found += steps_of(node.body)
    return found


def templates_of(value: Any) -> list[Template]:
    """Return every template inside a node, a spec or any nesting of mappings and sequences."""
    found: list[Template] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[Template]) -> None:
    # Every rule asks this of every node, and most fields are plain values: this order is three times as fast as a
    # generator that matches the types in turn.
    kind = type(value)
    if value is None or kind in _PLAIN:
        return
    if kind is Template:
        found.append(value)
    elif isinstance(value, BaseModel):
        for name in _field_names(type(value)):
            _collect(getattr(value, name), found)
    elif kind is Step:
        for part in (value.spec, value.when, value.for_each):
            _collect(part, found)
    elif isinstance(value, Mapping):
        for item in value.values():
            _collect(item, found)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect(item, found)
    elif kind is ForEach:
        found.append(value.items)
    elif issubclass(kind, Loop):
        for part in (value.body, value.max_turns, *value.conditions, value.for_each):
            _collect(part, found)
    elif kind is Filter:
        found.append(value.predicate)
        _collect(value.reason, found)
    elif kind is ValueNode:
        for part in (value.template, value.when, value.for_each):
            _collect(part, found)


_PLAIN = frozenset({str, int, float, bool, bytes})


@cache
def _field_names(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(model.model_fields)
