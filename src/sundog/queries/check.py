"""The rules for the text of a table's query: each complaint with its place and what to do instead.

Owns the rules that the text alone decides. What needs the types of columns (unknown and ambiguous columns, functions of
wrong arguments) is asked of DuckDB by whoever holds a connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise

from sqlglot import TokenType, exp

from sundog.errors import suggest
from sundog.queries.functions import CLOCK_NAMES, ORDERED_AGGREGATES, VOLATILE_NAMES, called, spoken
from sundog.queries.parsed import Query, is_relation, offset_of, relation_name, relations
from sundog.queries.select_parts import (
    RESERVED,
    is_grouped,
    is_one_pass,
    is_star,
    output_names,
    own_nodes,
    selects,
    source,
)

_TABLE_FUNCTIONS = (exp.Unnest, exp.Explode, exp.GenerateSeries, exp.ExplodingGenerateSeries)
_MIXED_ORDER = "order by hash(id) for a mixed order that stays the same"
_PARAMETER = "write $NAME, where NAME is a constant of the flow"
_EVERY_NTH = "where hash(id) % 100 < 5 takes five of a hundred rows, the same ones each time"


@dataclass(frozen=True, slots=True)
class QueryComplaint:
    """One mistake in a query."""

    what: str
    hint: str
    #: The place in the query's text, in characters from 0.
    offset: int


def complaints_of(
    query: Query, known: Collection[str], constants: Collection[str] = (), *, is_made: bool = False
) -> list[QueryComplaint]:
    """Return what is wrong with `query`, in the order of its text. `known` are the inputs and tables that it may read,
    `constants` what its parameters may name. A query that the program itself made (`is_made`) may say `rowid` and give
    columns whose names are reserved."""
    found = [*_relations(query, known), *_parameters(query, constants)]
    found += [complaint for rule in _RULES for complaint in rule(query)]
    if not is_made:
        found += _reserved(query)
    return sorted(dict.fromkeys(found), key=lambda complaint: complaint.offset)


def _relations(query: Query, known: Collection[str]) -> Iterator[QueryComplaint]:
    for table in relations(query.tree):
        name, offset = relation_name(table), offset_of(table)
        if name in known:
            continue
        if isinstance(table.this, exp.Identifier) and table.this.quoted and not name.isidentifier():
            hint = "name the file under inputs, and read the input" if set("./*") & set(name) else suggest(name, known)
            yield QueryComplaint(f"there is no table or input '{name}'", hint, offset)
        elif table.db:
            yield QueryComplaint(f"'{name}' is outside of the flow", "a query reads inputs and tables only", offset)
        else:
            yield QueryComplaint(f"there is no table or input '{name}'", suggest(name, known), offset)
    small = {name.lower() for name in known}
    for part in query.tree.find_all(exp.CTE):
        if part.alias.lower() in small:
            what = f"'{part.alias}' is a part of the query, and a table or input of the flow too"
            yield QueryComplaint(what, "give the part another name", offset_of(part.args["alias"]))


def _parameters(query: Query, constants: Collection[str]) -> Iterator[QueryComplaint]:
    for token, behind in pairwise((*query.tokens, query.tokens[-1])):
        if token.token_type is TokenType.PLACEHOLDER:
            yield QueryComplaint("the parameter '?' has no name", _PARAMETER, token.start)
        elif token.token_type is TokenType.PARAMETER and behind.token_type is TokenType.NUMBER:
            yield QueryComplaint(f"the parameter '${behind.text}' has no name", _PARAMETER, token.start)
        elif token.token_type is TokenType.PARAMETER and behind.text not in constants:
            what = f"there is no constant '{behind.text}'"
            yield QueryComplaint(what, suggest(behind.text, constants), token.start)


def _statements(query: Query) -> Iterator[QueryComplaint]:
    for node in query.tree.walk():
        match node:
            case exp.With() if node.args.get("recursive"):
                hint = "write the levels out; closures are what `resolve` makes"
                yield QueryComplaint("a query does not call itself (recursive)", hint, offset_of(node))
            case exp.Pivot() if not node.args.get("unpivot"):
                hint = "write sum(x) filter (where kind = 'a') as a for each column"
                yield QueryComplaint("the columns of a pivot depend on the rows", hint, offset_of(node))
            case exp.DML() | exp.DDL() | exp.Command() | exp.Into() | exp.Lock() if not isinstance(node, exp.Query):
                what = "a query changes nothing" if not isinstance(node, exp.Lock) else "a query locks nothing"
                yield QueryComplaint(f"{what} ({node.key})", "a query only selects", offset_of(node))
            case exp.Describe() | exp.Summarize() | exp.Show() | exp.Pragma():
                yield QueryComplaint(f"'{node.key}' is no table", "select from inputs and tables", offset_of(node))


def _sources(query: Query) -> Iterator[QueryComplaint]:
    for node in query.tree.find_all(exp.Table, exp.Lateral):
        called_here = node.this
        if isinstance(called_here, exp.Func) and not isinstance(called_here, _TABLE_FUNCTIONS):
            name, offset = spoken(query, called_here)
            what = f"a query reads inputs and tables, and not what {name}() gives"
            yield QueryComplaint(what, "name the file under inputs, and read the input", offset)


def _volatile(query: Query) -> Iterator[QueryComplaint]:
    times = {node.meta["start"] for node in query.tree.find_all(exp.Anonymous) if len(node.expressions) == 1}
    for name, offset in called(query):
        if name == "age" and offset not in times:
            continue
        if name in CLOCK_NAMES:
            yield QueryComplaint(f"{name} reads the clock", "write the time as a constant of the flow", offset)
        elif name in VOLATILE_NAMES:
            what = f"{name}() may give another table each time"
            yield QueryComplaint(what, _MIXED_ORDER if name == "random" else "leave it out", offset)


def _samples(query: Query) -> Iterator[QueryComplaint]:
    for node in query.tree.find_all(exp.TableSample):
        offset = offset_of(node)
        yield QueryComplaint("a sample is another one each time", _EVERY_NTH, offset)


def _limits(query: Query) -> Iterator[QueryComplaint]:
    for node in query.tree.find_all(exp.Select, exp.SetOperation, exp.Subquery):
        bound = node.args.get("limit") or node.args.get("offset")
        if bound is not None and node.args.get("order") is None and not _has_order(node, bounded=True):
            hint = "say which rows come first: order by"
            yield QueryComplaint("limit takes any rows of a set that has no order", hint, offset_of(bound))
        on = node.args.get("distinct")
        if isinstance(on, exp.Distinct) and on.args.get("on") is not None and node.args.get("order") is None:
            hint = "say which row is kept: order by"
            yield QueryComplaint("distinct on keeps any row of those that are equal", hint, offset_of(on))


def _has_order(tree: exp.Expr | None, *, bounded: bool = False) -> bool:
    """Return whether the rows of `tree` come in an order that its sources decide. Joins and unnests keep none."""
    match tree:
        case exp.Subquery():
            return not tree.args.get("joins") and (tree.args.get("order") is not None or _has_order(tree.this))
        case exp.SetOperation():
            is_all = isinstance(tree, exp.Union) and not tree.args.get("distinct")
            return _is_ordered(tree, bounded) or (
                is_all and _has_order(tree.this) and _has_order(tree.args.get("expression"))
            )
        case exp.Select():
            if _is_ordered(tree, bounded):
                return True
            if is_grouped(tree):
                return tree.args.get("group") is None
            return tree.args.get("distinct") is None and is_one_pass(tree) and _has_order(source(tree))
        case exp.Table() if isinstance(tree.this, exp.Identifier):
            return is_relation(tree)
    return True


def _is_ordered(tree: exp.Expr, bounded: bool) -> bool:
    return not bounded and tree.args.get("order") is not None


def _aggregates(query: Query) -> Iterator[QueryComplaint]:
    for select in query.tree.find_all(exp.Select):
        if is_one_pass(select) and _has_order(source(select)):
            continue
        for node in own_nodes(select):
            if isinstance(node, exp.Func) and not _says_order(node):
                name, offset = spoken(query, node)
                if name in ORDERED_AGGREGATES:
                    what = f"{name}() depends on the order of rows, and here they have none"
                    yield QueryComplaint(what, f"write {name}(... order by ...)", offset)


def _says_order(node: exp.Func) -> bool:
    if any(isinstance(one, exp.Order) for one in own_nodes(node)):
        return True
    window = node.find_ancestor(exp.Window, exp.Select)
    return isinstance(window, exp.Window) and bool(window.args.get("order") or window.args.get("alias"))


def _outputs(query: Query) -> Iterator[QueryComplaint]:
    first = next(selects(query.tree), None)
    if first is None:
        return
    names = output_names(first)
    count = Counter(name.lower() for name in names if name is not None)
    for number, (name, one) in enumerate(zip(names, first.expressions, strict=True), start=1):
        if name is not None and count[name.lower()] > 1:
            what = f"the query gives the column '{name}' twice"
            yield QueryComplaint(what, "give one of them another name: ... as NAME", offset_of(one))
        elif name is None and not is_star(one) and not isinstance(one, exp.Explode):
            hint = "write ... as NAME, as what DuckDB calls it may change"
            yield QueryComplaint(f"column {number} of the query has no name", hint, offset_of(one))


def _reserved(query: Query) -> Iterator[QueryComplaint]:
    for node in query.tree.find_all(exp.Column):
        if node.name.lower() == "rowid":
            hint = "give the rows a number of your own: row_number() over (order by ...)"
            yield QueryComplaint("rowid is no column of a table", hint, offset_of(node))
    for name, one in ((node.alias, node) for node in query.tree.find_all(exp.Alias, exp.TableAlias)):
        if name.startswith(RESERVED):
            yield QueryComplaint(
                f"names that begin with {RESERVED} are reserved: '{name}'", "rename it", offset_of(one)
            )


_RULES: tuple[Callable[[Query], Iterator[QueryComplaint]], ...] = (
    _statements,
    _sources,
    _volatile,
    _samples,
    _limits,
    _aggregates,
    _outputs,
)
