"""The keys of one select's rows: which rows of its sources they are made of, as columns that its text can give.

Owns the columns and the edits of the text that name them: the `rowid` of a table, the position in an unnested list. A
select over anything else has no keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import Token, TokenType, exp

from sundog.ir.sql_types import sql_name
from sundog.queries.clauses import Clause, Edit, closing
from sundog.queries.functions import unknown_function
from sundog.queries.parsed import Query, is_relation
from sundog.queries.select_parts import in_window, is_grouped, is_one_pass, is_star, own_nodes, source

_POSITION = "__p"


@dataclass(frozen=True, slots=True)
class KeyedSelect:
    """One select of a query: its text's clauses, and what its rows can be ordered by."""

    select: exp.Select
    clauses: Sequence[Clause]
    #: The `rowid` of the tables and the positions in unnested lists, in the order of `from`.
    keys: tuple[str, ...]
    #: The names of the positions, which a star must not show.
    positions: tuple[str, ...]
    #: These give the positions their names.
    edits: tuple[Edit, ...]


def keys_of(query: Query, select: exp.Select, clauses: Sequence[Clause]) -> KeyedSelect | None:
    """Return what the rows of `select` can be ordered by; None where a source is no table and no unnested list, where
    it takes distinct rows, where lists are unnested beside what mixes the rows, or where a function may be an
    aggregate."""
    words = query.tokens
    behind = next((clause for clause in clauses if clause.name == "from"), None)
    joins = select.args.get("joins") or []
    if behind is None or select.args.get("laterals") or select.args.get("distinct"):
        return None
    if not is_one_pass(select) and any(isinstance(node, exp.Explode) for node in own_nodes(select)):
        return None
    scalars = (node for node in own_nodes(select) if not in_window(node))
    if not is_grouped(select) and unknown_function(query, scalars):
        return None
    keys: list[str] = []
    positions: list[str] = []
    edits: list[Edit] = []
    calls = iter(_unnests(words, behind))
    for joined in (source(select), *joins):
        one = joined.this if isinstance(joined, exp.Join) else joined
        if isinstance(joined, exp.Join) and joined.kind in ("SEMI", "ANTI"):
            continue
        if isinstance(one, exp.Table) and _has_rowid(one):
            keys.append(f"{sql_name(one.alias_or_name)}.rowid")
        elif isinstance(one, exp.Unnest) and not one.args.get("offset") and len(one.expressions) == 1:
            name = f"{_POSITION}{len(positions)}"
            alias, edit = _with_position(words, next(calls), name)
            keys.append(f"{alias}.{name}")
            positions.append(name)
            edits.append(edit)
        else:
            return None
    return KeyedSelect(select, clauses, tuple(keys), tuple(positions), tuple(edits))


def _has_rowid(table: exp.Table) -> bool:
    alias = table.args.get("alias")
    columns = alias.columns if isinstance(alias, exp.TableAlias) else []
    plain = is_relation(table) and not table.args.get("pivots") and not table.args.get("joins")
    return plain and all(column.name.lower() != "rowid" for column in columns)


def _unnests(words: Sequence[Token], behind: Clause) -> list[int]:
    """Return the numbers of the words `unnest` of a `from`, brackets inside it left out."""
    found, number = [], behind.first
    while number < behind.end:
        if words[number].token_type is TokenType.L_PAREN:
            number = closing(words, number)
        elif words[number].token_type is TokenType.UNNEST:
            found.append(number)
        number += 1
    return found


def _with_position(words: Sequence[Token], call: int, name: str) -> tuple[str, Edit]:
    """Return the alias of an unnested list and the edit that gives its rows a position of this name. The column of the
    elements keeps the name that it has without one: the alias, or `unnest`."""
    end = closing(words, call + 1)
    number = end + 1
    is_said = number < len(words) and words[number].token_type is TokenType.ALIAS
    if is_said:
        number += 1
    elif number == len(words) or words[number].token_type not in (TokenType.VAR, TokenType.IDENTIFIER):
        place = words[end].end + 1
        return '"unnest"', Edit(place, place, f' with ordinality as "unnest"("unnest", {name})')
    alias, last, column = sql_name(words[number].text), number, sql_name(words[number].text)
    if number + 1 < len(words) and words[number + 1].token_type is TokenType.L_PAREN:
        last = closing(words, number + 1)
        column = sql_name(words[number + 2].text)
    text = f" with ordinality as {alias}({column}, {name})"
    return alias, Edit(words[end].end + 1, words[last].end + 1, text)


def with_outputs(words: Sequence[Token], part: KeyedSelect, columns: Sequence[str]) -> list[Edit] | None:
    """Return the edits that put `columns` behind the outputs; None where there is no `select`, or where a star would
    show a position and cannot be told not to."""
    clause = next((clause for clause in part.clauses if clause.name == "select"), None)
    if clause is None:
        return None
    last = words[clause.end - 1]
    comma = "" if last.token_type is TokenType.COMMA else ","
    hidden = hidden_positions(words, part)
    return None if hidden is None else [Edit(last.end + 1, last.end + 1, f"{comma} {', '.join(columns)}"), *hidden]


def hidden_positions(words: Sequence[Token], part: KeyedSelect) -> list[Edit] | None:
    """Return the edits that keep positions out of a star; None where it cannot be told to leave them out."""
    clause = next((clause for clause in part.clauses if clause.name == "select"), None)
    if not part.positions or clause is None:
        return []
    aliases = {key.rpartition(".")[0].strip('"') for key in part.keys if not key.endswith(".rowid")}
    showing = [one for one in part.select.expressions if _shows(one, aliases)]
    places = _bare_stars(words, clause)
    if not showing:
        return []
    if len(showing) != 1 or len(places) != 1:
        return None
    return [Edit(places[0], places[0], f" exclude ({', '.join(part.positions)})")]


def _shows(one: exp.Expr, aliases: set[str]) -> bool:
    """Return whether an output is a star over unnested lists, or one of which this is not certain."""
    if isinstance(one, exp.Column) and isinstance(one.this, exp.Star):
        return one.table in aliases
    return is_star(one)


def _bare_stars(words: Sequence[Token], clause: Clause) -> list[int]:
    """Return the places behind the stars that stand alone among the outputs, without an `exclude` or the like."""
    around = (TokenType.SELECT, TokenType.COMMA)
    return [
        words[number].end + 1
        for number in range(clause.first + 1, clause.end)
        if words[number].token_type is TokenType.STAR
        and words[number - 1].token_type in around
        and (number + 1 == clause.end or words[number + 1].token_type is TokenType.COMMA)
    ]
