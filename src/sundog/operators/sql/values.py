"""Values of databases as they are: what drivers round, shorten or refuse is read as the database's own text.

Owns the settings of a driver's connections. Never runs a statement of the user's.
"""

from __future__ import annotations

import json
from decimal import Decimal
from functools import cache
from typing import Any

_ISO_INTERVALS = "set intervalstyle = 'iso_8601'"


def exact_json(text: str | bytes) -> Any:
    """Return the value of JSON with each number as it is written: one that no double holds is a Decimal, which becomes
    text."""
    return json.loads(text, parse_float=_exact_float)


def read_postgresql_as_it_is(connection: Any) -> None:
    """Let a new connection of psycopg give intervals as ISO text, where months are no days, and dates that Python does
    not know as PostgreSQL writes them. Other drivers keep what they do."""
    if type(connection).__module__.partition(".")[0] != "psycopg":
        return
    for name, loader in _psycopg_loaders().items():
        connection.adapters.register_loader(name, loader)
    was_autocommit = connection.autocommit
    connection.autocommit = True
    connection.execute(_ISO_INTERVALS)
    connection.autocommit = was_autocommit


def _exact_float(digits: str) -> float | Decimal:
    number = float(digits)
    exact = Decimal(digits)
    return number if Decimal(repr(number)) == exact else exact


@cache
def _psycopg_loaders() -> dict[str, Any]:
    """Return by type psycopg's own loader of its text, and the text itself where that one refuses it."""
    from psycopg import DataError
    from psycopg.types import datetime
    from psycopg.types.string import TextLoader

    def lenient(loader: Any) -> Any:
        # Not the loaders of psycopg's C part: those are not asked by way of `load`.
        def load(self: Any, data: Any) -> Any:
            try:
                return loader.load(self, data)
            except DataError:
                return bytes(data).decode()

        return type(f"Text{loader.__name__}", (loader,), {"load": load})

    return {
        "interval": TextLoader,
        "date": lenient(datetime.DateLoader),
        "time": lenient(datetime.TimeLoader),
        "timetz": lenient(datetime.TimetzLoader),
        "timestamp": lenient(datetime.TimestampLoader),
        "timestamptz": lenient(datetime.TimestamptzLoader),
    }
