"""The reading of a statement in a bounded number of steps, since a model may have written it.

sqlglot tries some beginnings in several ways, one inside the other: each level of `char(char(...))` makes it read all
that follows twice. Owns the bound, which is a count and no time, so that a statement is readable everywhere or nowhere.
"""

from __future__ import annotations

from functools import lru_cache

from sqlglot import Dialect, exp
from sqlglot.errors import SqlglotError
from sqlglot.parser import Parser

MAX_STEPS = 100_000
"""A statement takes two or three steps for each of its words."""


class TooManySteps(SqlglotError):
    """Raised for a statement that is not read within the bound; caught by `judge` as any that cannot be parsed."""


def parse_bounded(query: str, dialect: str) -> list[exp.Expr | None]:
    """Return the statements of `query`; SqlglotError or RecursionError where it cannot be read."""
    found = Dialect.get_or_raise(dialect)
    return _parser_class(dialect)(dialect=found).parse(found.tokenize(query), query)


@lru_cache
def _parser_class(dialect: str) -> type[Parser]:
    base: type[Parser] = Dialect.get_or_raise(dialect).parser_class

    class BoundedParser(base):  # type: ignore[misc, valid-type]  # each dialect has a parser of its own
        _num_steps = 0

        def _advance(self, times: int = 1) -> None:
            self._num_steps += 1
            if self._num_steps > MAX_STEPS:
                raise TooManySteps("it takes too many steps to read")
            super()._advance(times)

    return BoundedParser
