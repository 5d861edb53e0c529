"""The text of a statement, with its parameters told from other colons.

Owns where `:name` is a parameter: not in a literal, a quoted name or a comment. Never judges a statement and never runs
one.
"""

from __future__ import annotations

from functools import lru_cache

from sqlglot import tokenize
from sqlglot.errors import SqlglotError

from sundog.operators.sql.judge import DIALECTS


@lru_cache(maxsize=1024)
def marked(query: str, backend: str) -> str:
    r"""`query` with `\:` for every colon that begins no parameter for standing in a literal, a quoted name or a comment
    of the database; one that is written so already stays. SQLAlchemy reads names behind all other colons."""
    try:
        tokens = tokenize(query, read=DIALECTS.get(backend))
    except SqlglotError:
        return query
    signs = {token.start for token in tokens if query[token.start] == ":"}
    # The second colon of `::` begins no token.
    signs |= {token.end for token in tokens if query[token.start : token.end + 1] == "::"}
    return "".join(
        f"\\{letter}" if letter == ":" and place not in signs and query[max(0, place - 1)] != "\\" else letter
        for place, letter in enumerate(query)
    )
