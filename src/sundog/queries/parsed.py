"""Queries of tables as they are read: one `select` in DuckDB's words, parsed once and never written from its tree.

Owns the parsed form and the refusal of what is no single query. Never connects, never looks at a column's type. The
text stays the user's own, as a writer of SQL from trees has made wrong results; whoever changes a query edits its text
(`sundog.queries.edits`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from sqlglot import Token, TokenType, exp, parse, tokenize
from sqlglot.errors import ParseError, SqlglotError

from sundog.errors import FlowError

DIALECT = "duckdb"

# The first words of a query. Whatever else a text begins with is not even given to the parser.
_BEGINNINGS = frozenset({"select", "with", "from", "("})
_STATEMENTS = {
    "create": "it makes a table", "insert": "it writes rows", "update": "it changes rows", "delete": "it deletes rows",
    "merge": "it writes rows", "copy": "it writes a file", "drop": "it drops a table", "alter": "it alters a table",
    "attach": "it opens a database", "detach": "it closes a database", "set": "it changes a setting",
    "pragma": "it changes a setting", "truncate": "it deletes rows",
    "pivot": "the columns of a pivot depend on the rows",
}  # fmt: skip


class UnreadableQuery(FlowError):
    """Raised for a text that is no single query; caught as a FlowError, by whoever knows the text's place in the flow's
    file. `offset` is where in the text, in characters from 0."""

    def __init__(self, what: str, *, hint: str | None = None, offset: int = 0) -> None:
        super().__init__(what, hint=hint)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Query:
    """One parsed query. `tree` and `tokens` are for this room alone, which never changes them."""

    #: The text, without a semicolon or a comment behind it.
    sql: str
    #: The relations that it reads, as written and each once, in the order of the text; none of its own parts.
    reads: tuple[str, ...]
    #: The names of its parameters, each once.
    parameters: tuple[str, ...]
    tree: exp.Query = field(repr=False, compare=False)
    tokens: tuple[Token, ...] = field(repr=False, compare=False)


@lru_cache(maxsize=1024)
def parse_query(sql: str) -> Query:
    """Parse `sql`. UnreadableQuery for what is no single `select`."""
    tokens: list[Token] = []
    try:
        tokens = tokenize(sql, read=DIALECT)
        while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
            tokens.pop()
        if not tokens:
            raise UnreadableQuery("the query is empty", hint="write a select")
        if tokens[0].text.lower() not in _BEGINNINGS:
            raise UnreadableQuery(_not_a_select(tokens[0].text), offset=tokens[0].start)
        text = sql[: tokens[-1].end + 1]
        statements = parse(text, read=DIALECT)
    except SqlglotError as error:
        raise _refused(error, sql, tokens) from None
    except RecursionError:
        raise UnreadableQuery("the query is nested too deeply", hint="split it into tables") from None
    if len(statements) != 1:
        second = next(token for token in tokens if token.token_type is TokenType.SEMICOLON)
        raise UnreadableQuery(
            f"a table's query is one select, and these are {len(statements)} statements",
            hint="make a table of each",
            offset=second.start,
        )
    tree = statements[0]
    if not isinstance(tree, exp.Query) or isinstance(tree, exp.Table):
        word = tree.key if tree is not None else tokens[0].text
        raise UnreadableQuery(_not_a_select(word), offset=tokens[0].start)
    read = sorted(relations(tree), key=offset_of)
    names = (
        behind.text
        for sign, behind in pairwise(tokens)
        if sign.token_type is TokenType.PARAMETER and behind.token_type is not TokenType.NUMBER
    )
    reads = tuple(dict.fromkeys(relation_name(table) for table in read))
    return Query(text, reads, tuple(dict.fromkeys(names)), tree, tuple(tokens))


def _refused(error: SqlglotError, sql: str, tokens: list[Token]) -> UnreadableQuery:
    if not tokens:
        return UnreadableQuery("the query cannot be split into words: a quote or a comment is not closed")
    if not isinstance(error, ParseError) or not error.errors:
        return UnreadableQuery(f"the query cannot be read: {str(error).strip().partition(chr(10))[0]}")
    first = error.errors[0]
    word = first["highlight"] or ""
    # The parser tells the line and the column of the word's last character.
    before = sum(len(one) for one in sql.splitlines(keepends=True)[: (first["line"] or 1) - 1])
    offset = max(before + (first["col"] or 1) - len(word), 0)
    if "missing" in (first["description"] or "") or "Expecting" in (first["description"] or ""):
        return UnreadableQuery(f"the query cannot be read: something is missing at '{word}'", offset=offset)
    return UnreadableQuery(f"the query cannot be read: '{word}' is not expected here", offset=offset)


def _not_a_select(word: str) -> str:
    does = _STATEMENTS.get(word.lower(), f"it begins with '{word.lower()}'")
    return f"a table's query is one select, and this is none: {does}"


def relations(tree: exp.Expr) -> Iterator[exp.Table]:
    """Return the tables below `tree` that are read by their name, and are no part (`with`) of the query itself."""
    for table in tree.find_all(exp.Table, bfs=False):
        if is_relation(table):
            yield table


def is_relation(table: exp.Table) -> bool:
    """Return whether `table` is read by its name from outside of the query."""
    return isinstance(table.this, exp.Identifier) and not _is_part(table)


def relation_name(table: exp.Table) -> str:
    """Return the name as it is written, with its schema where it has one."""
    return ".".join(part.name for part in table.parts)


def _is_part(table: exp.Table) -> bool:
    """Return whether the name is one that a `with` around the table gives; where it stands below that is DuckDB's to
    judge."""
    if table.db:
        return False
    name = table.name.lower()
    above: exp.Expr | None = table.parent
    while above is not None:
        parts = above.args.get("with_")
        if parts is not None and any(part.alias.lower() == name for part in parts.expressions):
            return True
        above = above.parent
    return False


def offset_of(node: exp.Expr) -> int:
    """Return where `node` begins in the text, as far as its names and values tell."""
    return min((one.meta["start"] for one in node.walk() if "start" in one.meta), default=0)
