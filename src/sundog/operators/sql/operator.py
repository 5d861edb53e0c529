"""The `sql` step: one statement on a database, its values bound, never pasted.

Owns what the plan knows of the step, and the databases of a run. `judge` says what a statement does, `lookup` gathers
and `database` executes; they are loaded when first needed, so that a flow without SQL never waits for their
libraries.

A row is a dict of JSON types: numbers as they are, decimals and dates as text (nothing is rounded), bytes as base64.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sundog.errors import OperatorError
from sundog.ir.logical import EngineBlock, OperatorSpec
from sundog.ir.physical import Sharing
from sundog.ir.schemas.shape import Anything, ListOf, Record, Scalar, Shape
from sundog.ir.templates.render import Scope
from sundog.ir.values.canonical import canonical_json
from sundog.operators.arguments import redact_error
from sundog.operators.base import (
    DEFAULT_CONCURRENCY,
    BoundCall,
    CallContext,
    Finding,
    Inspection,
    Outcome,
    Traits,
)
from sundog.operators.sql.spec import (
    SQLSpec,
    bind_spec,
    bound_text,
    check_spec,
    judgement_of,
    lookup_in,
    marked_for,
    payload_form_of,
)

if TYPE_CHECKING:
    from sqlalchemy import URL

    from sundog.operators.sql.database import Database, Statement
    from sundog.operators.sql.duckdb_file import DuckDBFile
    from sundog.operators.sql.lookup import Lookup
    from sundog.operators.sql.rows import SQLRow


WRITE_RETRIES = 5
FILE_CONCURRENCY = 8
"""Calls in flight on a database that is a file, where the flow says nothing: its queries run on the cores here."""


class SQLOperator:
    """SQL statements over SQLAlchemy; one pool of connections for each database."""

    name = "sql"
    Spec: type[OperatorSpec] = SQLSpec

    def __init__(self, base_dir: Path) -> None:
        self._base_dir = base_dir
        self._databases: dict[tuple[str, bool], Database] = {}
        self._duckdb_files: dict[Path, DuckDBFile] = {}
        self._known: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._has_plain_table: dict[tuple[str, str], bool] = {}

    def check(self, spec: SQLSpec, engines: Mapping[str, EngineBlock]) -> None:
        check_spec(spec)

    def traits(self, spec: SQLSpec) -> Traits:
        from sundog.operators.sql.judge import Reach
        from sundog.operators.sql.url import FILE_BACKENDS, backend_of

        found = judgement_of(spec)
        resource, files = self._place(spec.database)
        backend = backend_of(spec.database)
        max_concurrency = FILE_CONCURRENCY if backend in FILE_BACKENDS else DEFAULT_CONCURRENCY
        if found.reach is not Reach.WRITE:
            sharing = Sharing.RUN if found.reach is Reach.READ else Sharing.NEVER
            lookup = lookup_in(spec)
            return Traits(
                sharing,
                pool=resource,
                resource=resource,
                max_concurrency=max_concurrency,
                reason=found.reason if spec.generated is not None else f"read-only: {found.reason}",
                lookup=None if lookup is None else lookup.param,
                files=files,
                payload=payload_form_of(spec),
            )
        # A file takes one writer at a time: others would only wait for its lock.
        is_file = backend in FILE_BACKENDS
        return Traits(
            Sharing.NEVER,
            pool=f"{resource} (writes)" if is_file else resource,
            is_effect=True,
            resource=resource,
            writes=True,
            max_concurrency=1 if is_file else max_concurrency,
            # Only what is known not to have happened: many writers of one row get in each other's way at first.
            retries=WRITE_RETRIES,
            reason=f"a write: {found.reason}",
            files=files,
        )

    def address_of(self, spec: SQLSpec) -> str:
        from sundog.operators.sql.url import database_address

        return database_address(spec.database)

    def pool_at(self, address: str) -> str | None:
        from sundog.operators.sql.url import check_address, is_database

        if not is_database(address):
            return None
        check_address(address)
        return self._place(address)[0]

    def _place(self, database: str) -> tuple[str, tuple[str, ...]]:
        """Return the database as a plan names it, and its files. Rules ask thousands of times; links in the path of a
        file are followed once."""
        if database not in self._known:
            from sundog.operators.sql.url import files_of_database, resource_of

            self._known[database] = resource_of(database, self._base_dir), files_of_database(database)
        return self._known[database]

    def bound_to_machine(self, spec: SQLSpec) -> Finding | None:
        from sundog.operators.sql.url import FILE_BACKENDS, backend_of

        if backend_of(spec.database) not in FILE_BACKENDS:
            return None
        server = "put its tables into a database that is a server, as in postgresql+psycopg://host/name"
        resource, files = self._place(spec.database)
        if self.traits(spec).writes:
            what = f"it writes to {resource}, a file: processes on several machines would damage it"
            return Finding(what, server, is_fatal=True)
        folder = self._base_dir.resolve()
        if not files or not all((folder / name).resolve().is_relative_to(folder) for name in files):
            what = f"it reads {resource}, a file that is not in the flow's folder: other machines may have another one"
            return Finding(what, f"copy it into the flow's folder; or {server}", is_fatal=True)
        return Finding(f"each machine reads {resource} for itself: nobody may write to it meanwhile")

    def shape(self, spec: SQLSpec) -> Shape:
        if judgement_of(spec).has_rows is False:
            return ListOf(Record.of(num_rows=Scalar("int")))
        return ListOf(Anything())

    def bind(self, spec: SQLSpec, scope: Scope, engines: Mapping[str, Mapping[str, Any]]) -> BoundCall:
        return bind_spec(spec, scope)

    async def run(self, call: BoundCall, context: CallContext) -> Outcome:
        from sundog.operators.sql.judge import Reach, judge
        from sundog.operators.sql.url import backend_of

        payload = call.payload
        if "generated" in payload:
            return Outcome(context.secrets.redact_all(await self._execute_generated(payload, context)))
        reach = judge(payload["query"], backend_of(payload["database"])).reach
        rows = await self._execute(
            payload["database"],
            payload["query"],
            payload["params"],
            context,
            is_write=reach is Reach.WRITE,
            max_rows=payload["max_rows"],
        )
        return Outcome(context.secrets.redact_all(rows))

    def group_of(self, spec: SQLSpec, call: BoundCall) -> Hashable | None:
        from sundog.operators.sql.lookup import kind_of

        lookup = lookup_in(spec)
        assert lookup is not None, "this step has no look-up"
        params = dict(call.payload["params"])
        kind = kind_of(params.pop(lookup.param))
        return None if kind is None else (kind, canonical_json(params))

    async def run_gathered(
        self, spec: SQLSpec, calls: Sequence[BoundCall], context: CallContext
    ) -> Sequence[Outcome | None]:
        from sundog.operators.sql.lookup import LOOKUP_KEY, kind_of, split_rows

        lookup = lookup_in(spec)
        assert lookup is not None, "this step has no look-up"
        if not await self._is_plain_table(spec.database, lookup, context):
            return [None] * len(calls)
        params = calls[0].payload["params"]
        asked = [call.payload["params"][lookup.param] for call in calls]
        keys = list(dict.fromkeys(asked))
        # More rows than keys: some key has several, and their order alone is not known from here.
        rows = await self._execute(
            spec.database,
            lookup.query,
            {**params, lookup.param: keys},
            context,
            max_rows=len(keys),
            raw_column=LOOKUP_KEY,
        )
        kind = kind_of(keys[0])
        assert kind is not None, "a call that must run alone was gathered"
        found = split_rows(rows, keys, kind)
        if found is None:
            return [None] * len(calls)
        return [Outcome(context.secrets.redact_all(found[key])) if len(found[key]) <= 1 else None for key in asked]

    async def inspect(self, spec: SQLSpec, given: Inspection) -> Sequence[Finding]:
        from sundog.operators.sql.inspection import findings_of
        from sundog.operators.sql.url import reveal_url

        url = reveal_url(spec.database, given.secrets)
        # Whatever will be generated, the database must be there.
        query = marked_for(spec.query or "select 1", spec.database)
        return await asyncio.to_thread(findings_of, query, url, self._base_dir, judgement_of(spec))

    async def close(self) -> None:
        databases, self._databases = self._databases, {}
        for database in databases.values():
            database.close()

    async def _is_plain_table(self, url: str, lookup: Lookup, context: CallContext) -> bool:
        """Return whether the proof holds for the table that there is; asked once in a run."""
        known = (url, lookup.query)
        if known not in self._has_plain_table:
            names = {"table": lookup.table, "column": lookup.column}
            rows = await self._execute(url, lookup.table_check, names, context, max_rows=1)
            self._has_plain_table[known] = bool(rows)
        return self._has_plain_table[known]

    async def _execute_generated(self, payload: Mapping[str, Any], context: CallContext) -> list[SQLRow]:
        """Run a statement that no other row may have: nothing of it is remembered."""
        from sqlalchemy import text

        from sundog.operators.sql.database import Statement
        from sundog.operators.sql.generated import MAX_RESULT_BYTES, without_parameters

        clause, max_rows = text(without_parameters(payload["generated"])), payload["max_rows"]
        statement = Statement(clause, {}, False, max_rows, is_remembered=False, max_bytes=MAX_RESULT_BYTES)
        return await self._run(self._open(payload["database"], context, is_write=False), statement, context)

    async def _execute(
        self,
        url: str,
        query: str,
        params: Mapping[str, Any],
        context: CallContext,
        *,
        max_rows: int,
        is_write: bool = False,
        raw_column: str | None = None,
    ) -> list[SQLRow]:
        from sundog.operators.sql.database import Statement

        database = self._open(url, context, is_write=is_write)
        named = () if database.takes_lists else params.items()
        lists = tuple(sorted(name for name, value in named if isinstance(value, list)))
        statement = Statement(bound_text(marked_for(query, url), lists), params, is_write, max_rows, raw_column, lists)
        return await self._run(database, statement, context)

    async def _run(self, database: Database, statement: Statement, context: CallContext) -> list[SQLRow]:
        try:
            return await database.execute(statement, timeout_s=context.timeout_s)
        except OperatorError as error:
            raise redact_error(error, context.secrets) from None

    def _open(self, url: str, context: CallContext, *, is_write: bool) -> Database:
        """Return the database of a call, with as many connections as its pool has calls at once: those that only read a
        file are a pool of their own."""
        from sundog.operators.sql.database import Database
        from sundog.operators.sql.url import FILE_BACKENDS, backend_of, reveal_url

        backend = backend_of(url)
        key = (url, is_write and backend in FILE_BACKENDS)
        if key not in self._databases:
            revealed, num = reveal_url(url, context.secrets), context.max_concurrency
            self._databases[key] = (
                self._open_duckdb(revealed, num, is_write=is_write)
                if backend == "duckdb"
                else Database(revealed, self._base_dir, max_connections=num, is_write=is_write)
            )
        return self._databases[key]

    def _open_duckdb(self, url: URL, max_connections: int, *, is_write: bool) -> Database:
        from sundog.operators.sql.duckdb_file import DuckDBDatabase, DuckDBFile
        from sundog.operators.sql.url import file_path

        path = file_path(url, self._base_dir)
        file = self._duckdb_files.setdefault(path, DuckDBFile(path))
        return DuckDBDatabase(file, max_connections=max_connections, is_write=is_write)
