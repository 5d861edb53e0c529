"""Columns of a query traced to its sources: which of a relation it reads, and which output is a bare column of one.

Owns names, not types. What is not certain without types is answered by "all" or "none", whichever moves nothing. Names
are compared without regard to case, as DuckDB does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sqlglot import exp

from sundog.queries.parsed import Query, is_relation, relation_name
from sundog.queries.select_parts import is_star, output_names, own_nodes, selects, source

#: The columns of the relations, in order, as far as they are known.
Schema = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class ColumnOrigin:
    """A column of a relation that an output is, untouched."""

    relation: str
    column: str
    #: Where rows without partner come through an outer join, the output may be null where no row of the relation is.
    may_be_missing: bool = False


@dataclass(frozen=True, slots=True)
class QuerySource:
    """One entry of a `from`: a relation, or a list that is unnested (`relation` None)."""

    alias: str
    relation: str | None
    #: None where they are not known.
    columns: tuple[str, ...] | None
    may_be_missing: bool


class ColumnScope:
    """The names that one select can read."""

    def __init__(self, select: exp.Select, schema: Schema) -> None:
        self.select = select
        #: None where a source is neither a relation nor an unnested list, or rows are joined by what they hold.
        self.sources = _sources(select, schema)

    @cached_property
    def _shared(self) -> set[str]:
        """The columns that `using` gives once for both sides."""
        joins = self.select.args.get("joins") or []
        return {name.name.lower() for join in joins for name in join.args.get("using") or []}

    def resolve(self, node: exp.Expr) -> tuple[QuerySource, str, bool] | None:
        """Return the source of a name, its column, and whether the node is that column and not a part of it. None where
        it is not certain."""
        names = dotted_name(node)
        if self.sources is None or not names:
            return None
        first = names[0].lower()
        named = [one for one in self.sources if one.alias.lower() == first]
        holders = [one for one in self.sources if one.columns is None or first in map(str.lower, one.columns)]
        if len(names) > 1 and len(named) == 1 and not any(one.columns and one in holders for one in self.sources):
            return named[0], names[1], len(names) == 2
        if named or (first in self._shared and len({one.may_be_missing for one in self.sources}) > 1):
            return None
        if len(holders) == 1 and (holders[0].columns is not None or len(self.sources) == 1):
            return holders[0], names[0], len(names) == 1
        return None

    def star_sources(self, one: exp.Expr) -> list[QuerySource] | None:
        """Return the sources that a star shows; None where it is no plain star."""
        if isinstance(one, exp.Star) and self.sources is not None:
            plain = not any(one.args.get(name) for name in ("except_", "replace", "rename"))
            return self.sources if plain and not self._shared else None
        if isinstance(one, exp.Column) and isinstance(one.this, exp.Star) and self.sources is not None:
            plain = not any(one.this.args.get(name) for name in ("except_", "replace", "rename"))
            found = [each for each in self.sources if each.alias.lower() == one.table.lower()]
            return found if plain and len(found) == 1 else None
        return None


def dotted_name(node: exp.Expr) -> list[str]:
    """Return the words of a name with dots; none for any other node."""
    if isinstance(node, exp.Column) and not isinstance(node.this, exp.Star):
        return [part.name for part in node.parts]
    if isinstance(node, exp.Dot):
        left = [node.this.name] if isinstance(node.this, exp.Identifier) else dotted_name(node.this)
        right = [node.expression.name] if isinstance(node.expression, exp.Identifier) else ["()"]
        return left + right if left else []
    return []


def _sources(select: exp.Select, schema: Schema) -> list[QuerySource] | None:
    found: list[QuerySource] = []
    joins = select.args.get("joins") or []
    if select.args.get("laterals"):
        return None
    for joined in (source(select), *joins):
        join = joined if isinstance(joined, exp.Join) else None
        if join is not None and join.method:
            return None
        one = _source(join.this if join is not None else joined, schema, join)
        if one is None:
            return None
        if join is not None and join.side in ("RIGHT", "FULL"):
            found = [QuerySource(old.alias, old.relation, old.columns, True) for old in found]
        if join is None or join.kind not in ("SEMI", "ANTI"):
            found.append(one)
    return found


def _source(one: exp.Expr | None, schema: Schema, join: exp.Join | None) -> QuerySource | None:
    may_be_missing = join is not None and join.side in ("LEFT", "FULL")
    alias = one.args.get("alias") if one is not None else None
    columns = [column.name for column in alias.columns] if isinstance(alias, exp.TableAlias) else []
    if isinstance(one, exp.Table) and is_relation(one):
        if columns or one.args.get("pivots") or one.args.get("joins") or one.args.get("sample"):
            return None
        known = schema.get(relation_name(one))
        return QuerySource(one.alias_or_name, relation_name(one), tuple(known) if known else None, may_be_missing)
    if isinstance(one, exp.Unnest) and not one.args.get("offset"):
        name = one.alias or "unnest"
        return QuerySource(name, None, tuple(columns or [name]), may_be_missing)
    return None


def output_columns(query: Query, schema: Schema) -> tuple[str, ...] | None:
    """Return the names of the columns that the query gives, in order; None where the text and the known columns do not
    tell them for certain."""
    first = next(selects(query.tree), None)
    if first is None:
        return None
    scope = ColumnScope(first, schema)
    found: list[str] = []
    for name, one in zip(output_names(first), first.expressions, strict=True):
        if name is not None:
            found.append(name)
            continue
        sources = scope.star_sources(one)
        if sources is None or any(each.columns is None for each in sources):
            return None
        found += [column for each in sources for column in each.columns or ()]
    return tuple(found)


def origin(query: Query, column: str, schema: Schema) -> ColumnOrigin | None:
    """Return the column of a relation that the output `column` is, untouched; None where it is computed, where several
    branches give it, or where that is not certain."""
    return origin_in(query.tree, column, schema) if isinstance(query.tree, exp.Select) else None


def origin_in(select: exp.Select, column: str, schema: Schema) -> ColumnOrigin | None:
    """Return the origin of an output of one select, as `origin` does."""
    scope = ColumnScope(select, schema)
    names = [name.lower() if name is not None else None for name in output_names(select)]
    group = select.args.get("group")
    if group is not None and any(group.find(kind) for kind in (exp.Rollup, exp.Cube, exp.GroupingSets)):
        return None
    if names.count(column.lower()) == 1:
        return bare_origin(scope, select.expressions[names.index(column.lower())])
    stars = [one for one in select.expressions if is_star(one)]
    shown = [scope.star_sources(one) for one in stars]
    if not stars or column.lower() in names or any(one is None for one in shown):
        return None
    sources = [one for each in shown for one in each or []]
    holders = [one for one in sources if one.columns is None or column.lower() in map(str.lower, one.columns)]
    if len(holders) != 1 or (holders[0].columns is None and len(sources) > 1):
        return None
    return _origin_of(holders[0], column)


def bare_origin(scope: ColumnScope, one: exp.Expr) -> ColumnOrigin | None:
    """Return the column of a relation that an expression is, with or without another name."""
    inner = one.this if isinstance(one, exp.Alias) else one
    if not isinstance(inner, exp.Column) or _is_output_name(scope.select, inner, one):
        return None
    found = scope.resolve(inner)
    return _origin_of(found[0], found[1]) if found is not None and found[2] else None


def _is_output_name(select: exp.Select, column: exp.Column, at: exp.Expr) -> bool:
    """Return whether a name without a source may be another output's, which DuckDB allows."""
    aliases = [one for one in select.expressions if isinstance(one, exp.Alias) and one is not at]
    return not column.table and any(one.alias.lower() == column.name.lower() for one in aliases)


def _origin_of(found: QuerySource, column: str) -> ColumnOrigin | None:
    return None if found.relation is None else ColumnOrigin(found.relation, column, found.may_be_missing)


def columns_read(query: Query, relation: str, schema: Schema) -> frozenset[str] | None:
    """Return the columns of `relation` that the query reads, as written and perhaps some more; None for all, or where
    that is not certain."""
    own = list(selects(query.tree))
    if len(own) != sum(1 for _ in query.tree.find_all(exp.Select)) or (query.tree.args.get("order") and len(own) > 1):
        return None
    found: set[str] = set()
    for select in own:
        scope = ColumnScope(select, schema)
        if scope.sources is None:
            return None
        if any(relation_name(table) == relation for table in select.find_all(exp.Table)):
            read = _read(scope, relation)
            if read is None:
                return None
            found |= read
    return frozenset(found)


def _read(scope: ColumnScope, relation: str) -> set[str] | None:
    found: set[str] = set()
    outputs = {one.alias.lower() for one in scope.select.expressions if isinstance(one, exp.Alias)}
    for node in _names(scope.select):
        if is_star(node) or isinstance(node, exp.PositionalColumn):
            shown = scope.star_sources(node)
            if shown is None or any(one.relation == relation for one in shown):
                return None
            continue
        resolved = scope.resolve(node)
        if resolved is not None and resolved[0].relation == relation:
            found.add(resolved[1])
        elif resolved is None and not (len(dotted_name(node)) == 1 and dotted_name(node)[0].lower() in outputs):
            return None
    joins = scope.select.args.get("joins") or []
    return found | {name.name for join in joins for name in join.args.get("using") or []}


def _names(select: exp.Select) -> Iterator[exp.Expr]:
    """Return the names and stars of a select, each with all its dots; `count(*)` has none."""
    for node in own_nodes(select):
        if isinstance(node, exp.Star):
            is_name = not isinstance(node.parent, exp.Count | exp.Column)
        elif isinstance(node, exp.Column | exp.Dot):
            is_name = not isinstance(node.parent, exp.Dot)
        else:
            is_name = isinstance(node, exp.PositionalColumn | exp.Columns)
        if is_name:
            yield node
