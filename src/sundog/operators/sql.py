"""The `sql` step: one statement on a database, its values bound, never pasted.

Owns the spec, what the plan knows of the step, and binding. Judging is sql_judge's, executing sql_database's; both are
loaded when first needed, so that a flow without SQL never waits for their libraries.

A row is a dict of JSON types: numbers as they are, decimals and dates as text (nothing is rounded), bytes as base64.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sundog.errors import FlowError, OperatorError, suggest
from sundog.ir.logical import EngineBlock, OperatorSpec
from sundog.ir.physical import Sharing
from sundog.ir.render import Scope
from sundog.ir.shape import Anything, ListOf, Record, Scalar, Shape
from sundog.operators.arguments import Argument, redact_error, render_argument
from sundog.operators.base import BoundCall, CallContext, Outcome, Traits

if TYPE_CHECKING:
    from sqlalchemy import TextClause

    from sundog.operators.sql_database import Database
    from sundog.operators.sql_judge import Judgement


class SQLSpec(OperatorSpec):
    """`database`: a SQLAlchemy URL; a relative SQLite path starts at the flow file's folder. `query`: one statement,
    its parameters written `:name`. `params`: their values; a list stands for `(:a, :b, ...)` after `in`.
    `max_rows`: more than that fail the row."""

    allows_secrets = frozenset({"database"})

    database: str
    query: str
    params: dict[str, Argument] = Field(default_factory=dict)
    max_rows: int = Field(default=10_000, ge=1)


class SQLOperator:
    """SQL statements over SQLAlchemy; one pool of connections for each database."""

    name = "sql"
    Spec: type[OperatorSpec] = SQLSpec

    def __init__(self, base_dir: Path) -> None:
        self._base_dir = base_dir
        self._databases: dict[str, Database] = {}

    def check(self, spec: SQLSpec, engines: Mapping[str, EngineBlock]) -> None:
        from sundog.operators.sql_url import check_url

        if "{{" in spec.query or "{%" in spec.query:
            raise FlowError(
                "a SQL query is no template",
                hint="values go to params: where id = :id, and params: {id: '{{ row.id }}'}",
            )
        check_url(spec.database)
        num_statements = _judge(spec).num_statements
        if num_statements != 1:
            raise FlowError(f"the query holds {num_statements} statements", hint="write one statement in each step")
        _check_params(spec)

    def traits(self, spec: SQLSpec) -> Traits:
        from sundog.operators.sql_judge import Reach
        from sundog.operators.sql_url import backend_of, resource_of

        found = _judge(spec)
        resource = resource_of(spec.database, self._base_dir)
        if found.reach is not Reach.WRITE:
            sharing = Sharing.RUN if found.reach is Reach.READ else Sharing.NEVER
            return Traits(sharing, pool=resource, resource=resource, reason=f"read-only: {found.reason}")
        # SQLite takes one writer at a time: others would only wait for its lock.
        is_sqlite = backend_of(spec.database) == "sqlite"
        return Traits(
            Sharing.NEVER,
            pool=f"{resource} (writes)" if is_sqlite else resource,
            is_effect=True,
            resource=resource,
            writes=True,
            max_concurrency=1 if is_sqlite else 8,
            retries=0,
            reason=f"a write: {found.reason}",
        )

    def shape(self, spec: SQLSpec) -> Shape:
        if _judge(spec).has_rows is False:
            return ListOf(Record.of(num_rows=Scalar()))
        return ListOf(Anything())

    def bind(self, spec: SQLSpec, scope: Scope, engines: Mapping[str, Mapping[str, Any]]) -> BoundCall:
        params = {name: render_argument(argument, scope) for name, argument in spec.params.items()}
        for name, value in params.items():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict | list):
                    raise OperatorError(
                        f"the parameter '{name}' holds a {'mapping' if isinstance(item, dict) else 'list of lists'}",
                        hint="a parameter is text, a number, true, false, null or a list of these; | tojson makes text",
                    )
        return BoundCall({"database": spec.database, "query": spec.query, "params": params, "max_rows": spec.max_rows})

    async def run(self, call: BoundCall, context: CallContext) -> Outcome:
        from sundog.operators.sql_database import Statement
        from sundog.operators.sql_judge import Reach, judge
        from sundog.operators.sql_url import backend_of

        payload = call.payload
        database = self._open(payload["database"], context)
        reach = judge(payload["query"], backend_of(payload["database"])).reach
        lists = tuple(sorted(name for name, value in payload["params"].items() if isinstance(value, list)))
        statement = Statement(
            _text(payload["query"], lists), payload["params"], reach is Reach.WRITE, payload["max_rows"]
        )
        try:
            rows = await database.execute(statement, timeout_s=context.timeout_s)
        except OperatorError as error:
            raise redact_error(error, context.secrets) from None
        return Outcome(context.secrets.redact_all(rows))

    async def close(self) -> None:
        databases, self._databases = self._databases, {}
        for database in databases.values():
            database.close()

    def _open(self, url: str, context: CallContext) -> Database:
        from sundog.operators.sql_database import Database
        from sundog.operators.sql_url import reveal_url

        if url not in self._databases:
            self._databases[url] = Database(reveal_url(url, context.secrets), self._base_dir)
        return self._databases[url]


def _judge(spec: SQLSpec) -> Judgement:
    from sundog.operators.sql_judge import judge
    from sundog.operators.sql_url import backend_of

    return judge(spec.query, backend_of(spec.database))


def _check_params(spec: SQLSpec) -> None:
    wanted = _text(spec.query, ()).compile().params.keys()
    for name in wanted - spec.params.keys():
        raise FlowError(
            f"the query reads :{name}, which params does not give",
            hint=f"{suggest(name, spec.params)} (a colon that begins no parameter is written \\:)",
        )
    for name in spec.params.keys() - wanted:
        # SQLAlchemy takes no name that is followed by a colon for a parameter.
        is_cast = f":{name}::" in spec.query
        hint = f"write cast(:{name} as ...) in place of :{name}::..." if is_cast else suggest(name, wanted)
        raise FlowError(f"the query does not read the parameter '{name}'", hint=hint)


@lru_cache(maxsize=1024)
def _text(query: str, lists: tuple[str, ...]) -> TextClause:
    from sqlalchemy import bindparam, text

    return text(query).bindparams(*(bindparam(name, expanding=True) for name in lists))
