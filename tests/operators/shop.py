"""SQL steps on a small SQLite database, run as a row would run them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sundog.errors import OperatorError
from sundog.ir.templates.render import Scope
from sundog.operators.sql.operator import SQLOperator
from sundog.operators.sql.spec import SQLSpec
from tests.operators.calls import fault_of_step, run_step
from tests.operators.conformance import Context

URL = "sqlite:///shop.db"


def spec(query: str, database: str = URL, **fields: Any) -> SQLSpec:
    return SQLSpec.model_validate({"database": database, "query": query, **fields})


def run(folder: Path, step: SQLSpec, scope: Scope | None = None, context: Context | None = None) -> Any:
    return run_step(SQLOperator(folder), step, scope, context)


def fault(folder: Path, step: SQLSpec, context: Context | None = None) -> OperatorError:
    return fault_of_step(SQLOperator(folder), step, context)


def names(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        return [name for (name,) in connection.execute("select name from item order by id")]
