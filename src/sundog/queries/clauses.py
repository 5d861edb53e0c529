"""The clauses of a query's text: where each begins and ends, for edits of the text.

Owns the way from the words of one select to its clauses, and the edit of a text. Brackets and `case` are skipped whole,
so that only words of the select itself begin a clause. Whoever edits a text parses it again and compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlglot import Token, TokenType

_OPENING = frozenset({TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE, TokenType.CASE})
_CLOSING = frozenset({TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.END})
_BEGINS = {
    TokenType.SELECT: "select",
    TokenType.FROM: "from",
    TokenType.WHERE: "where",
    TokenType.GROUP_BY: "group",
    TokenType.HAVING: "having",
    TokenType.WINDOW: "window",
    TokenType.QUALIFY: "qualify",
    TokenType.ORDER_BY: "order",
    TokenType.LIMIT: "limit",
    TokenType.OFFSET: "limit",
    TokenType.FETCH: "limit",
    TokenType.UNION: "set",
    TokenType.EXCEPT: "set",
    TokenType.INTERSECT: "set",
}


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause: `words[first:end]`, its first word included."""

    name: str
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a text: what stands between two places, counted in characters from 0, gives way to `text`."""

    start: int
    end: int
    text: str


def edited(sql: str, edits: Iterable[Edit]) -> str:
    """Return `sql` with all `edits`, whose places are those of the text as it was and do not overlap."""
    for edit in sorted(edits, key=lambda one: (one.start, one.end), reverse=True):
        sql = sql[: edit.start] + edit.text + sql[edit.end :]
    return sql


def outer_words(words: Sequence[Token]) -> Iterator[int]:
    """Return the numbers of the words that stand in no bracket and in no `case`, brackets themselves left out."""
    depth = 0
    for number, word in enumerate(words):
        if word.token_type in _CLOSING:
            depth -= 1
        elif word.token_type in _OPENING:
            depth += 1
        elif depth == 0:
            yield number


def clauses_of(words: Sequence[Token]) -> list[Clause]:
    """Return the clauses of a query in the order of its text, without the parts (`with`) before them. Each branch of a
    set operation has a clause `select`; the word of the operation is a clause `set`."""
    begins = [(number, _BEGINS[words[number].token_type]) for number in outer_words(words) if _begins(words, number)]
    ends = [*(number for number, _ in begins[1:]), len(words)]
    return [Clause(name, number, end) for (number, name), end in zip(begins, ends, strict=False)]


def _begins(words: Sequence[Token], number: int) -> bool:
    """Return whether the word begins a clause; `is distinct from` has a `from` too."""
    if words[number].token_type is TokenType.FROM and number and words[number - 1].token_type is TokenType.DISTINCT:
        return False
    return words[number].token_type in _BEGINS


def closing(words: Sequence[Token], opening: int) -> int:
    """Return the number of the word that closes the bracket `words[opening]`."""
    depth = 0
    for number in range(opening, len(words)):
        depth += (words[number].token_type in _OPENING) - (words[number].token_type in _CLOSING)
        if depth == 0:
            return number
    return len(words)
