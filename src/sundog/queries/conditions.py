"""The conditions that stand between the outermost `and` of a `where`: their trees, their words, and what some say.

Owns the way from a `where` to its conditions. Whether one of them may go elsewhere is for others to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlglot import Token, TokenType, exp

from sundog.errors import FlowError
from sundog.queries.clauses import Clause, clauses_of, outer_words
from sundog.queries.parsed import parse_query


def conjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    """Return what stands between the outermost `and`, from left to right."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, exp.And):
            waiting += [one.expression, one.this]
        else:
            yield one


def condition_spans(words: Sequence[Token], clause: Clause) -> list[tuple[int, int]]:
    """Return the words of each condition of a `where`; the `and` of a `between` divides none."""
    begins, num_between = [clause.first + 1], 0
    for inner in outer_words(words[clause.first : clause.end]):
        number = clause.first + inner
        if words[number].token_type is TokenType.BETWEEN:
            num_between += 1
        elif words[number].token_type is TokenType.AND and num_between:
            num_between -= 1
        elif words[number].token_type is TokenType.AND:
            begins.append(number + 1)
    return list(zip(begins, [*(begin - 1 for begin in begins[1:]), clause.end], strict=True))


def keys_of_left(condition: str) -> tuple[str, ...]:
    """Return the sides over `l` of those conditions that say that it equals a side over `r`, as they are written.

    >>> keys_of_left("lower(l.name) = r.name and r.year = l.year and l.price < r.price")
    ('lower(l.name)', 'l.year')
    >>> keys_of_left("l.name = r.name or l.year = r.year")
    ()
    """
    try:
        query = parse_query(f"select 1 from l join r on true where {condition}")
    except FlowError:
        # The query that has this condition is refused where it is read.
        return ()
    clause = next((one for one in clauses_of(query.tokens) if one.name == "where"), None)
    where = query.tree.args.get("where")
    found = [] if where is None else list(conjuncts(where.this))
    spans = [] if clause is None else condition_spans(query.tokens, clause)
    if len(spans) != len(found):
        return ()
    sides = (
        _left_side(one, query.tokens[first:end], query.sql) for one, (first, end) in zip(found, spans, strict=True)
    )
    return tuple(side for side in sides if side is not None)


def _left_side(condition: exp.Expr, words: Sequence[Token], sql: str) -> str | None:
    signs = [number for number in outer_words(words) if words[number].token_type is TokenType.EQ]
    if not isinstance(condition, exp.EQ) or len(signs) != 1:
        return None
    read = _relations(condition.this), _relations(condition.expression)
    if read not in (({"l"}, {"r"}), ({"r"}, {"l"})):
        return None
    side = words[: signs[0]] if read[0] == {"l"} else words[signs[0] + 1 :]
    return sql[side[0].start : side[-1].end + 1]


def _relations(side: exp.Expr) -> set[str]:
    """Return what the columns of an expression begin with; nothing where it has a query inside."""
    if side.find(exp.Query) is not None:
        return set()
    return {column.parts[0].name.lower() for column in side.find_all(exp.Column)}
