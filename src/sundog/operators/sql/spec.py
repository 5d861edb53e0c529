"""The `sql` step as it is written: its spec, what is wrong with one, and what it asks on a row.

Owns binding. Never connects. `judge` says what a statement does; it and SQLAlchemy are loaded when first needed, so
that a flow without SQL never waits for them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import Field

from sundog.errors import FlowError, OperatorError, suggest
from sundog.ir.logical import OperatorSpec, templates_of
from sundog.ir.templates.render import Scope, render_json
from sundog.ir.templates.template import Template
from sundog.ir.values.canonical import canonical_json
from sundog.operators.arguments import Argument, held_templates, render_argument
from sundog.operators.base import BoundCall, PayloadForm

if TYPE_CHECKING:
    from sqlalchemy import TextClause

    from sundog.operators.sql.judge import Judgement
    from sundog.operators.sql.lookup import Lookup

_LIST_PARAM = re.compile(r"\bin\s*:(\w+)", re.IGNORECASE)


class SQLSpec(OperatorSpec):
    """One SQL statement."""

    allows_secrets = frozenset({"database"})

    #: A SQLAlchemy URL; a relative SQLite path starts at the flow file's folder.
    database: str
    #: One statement, its parameters written `:name`; exactly one of it and `generated` is given.
    query: str | None = None
    #: The text of a statement that only reads, as a model's answer; it has no parameters.
    generated: Template | None = None
    #: Their values; a list stands for `(:a, :b, ...)` after `in`.
    params: dict[str, Argument] = Field(default_factory=dict)
    #: A query with more rows fails.
    max_rows: int = Field(default=10_000, ge=1)


def check_spec(spec: SQLSpec) -> None:
    """Raise FlowError for what is wrong with a step that pydantic cannot see."""
    from sundog.operators.sql.url import check_url

    if spec.generated is not None:
        check_url(spec.database)
        _check_generated(spec)
        return
    if spec.query is None:
        raise FlowError("'query' is missing in 'sql'", hint="write one statement, or let `generated` give one")
    if "{{" in spec.query or "{%" in spec.query:
        raise FlowError(
            "a SQL query is no template",
            hint="values go to params: where id = :id, and params: {id: '{{ row.id }}'}",
        )
    check_url(spec.database)
    num_statements = judgement_of(spec).num_statements
    if num_statements != 1:
        raise FlowError(f"the query holds {num_statements} statements", hint="write one statement in each step")
    _check_params(spec)


def bind_spec(spec: SQLSpec, scope: Scope) -> BoundCall:
    """Return the statement and its values for one row; OperatorError for a bad row."""
    if spec.query is None:
        return _bind_generated(spec, scope)
    params = {name: render_argument(argument, scope) for name, argument in spec.params.items()}
    for name, value in params.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict | list):
                raise OperatorError(
                    f"the parameter '{name}' holds a {'mapping' if isinstance(item, dict) else 'list of lists'}",
                    hint="a parameter is text, a number, true, false, null or a list of these; | tojson makes text",
                )
    for name in _LIST_PARAM.findall(marked_for(spec.query, spec.database)):
        if not isinstance(params.get(name, []), list):
            kind = "null" if params[name] is None else "a single value"
            raise OperatorError(
                f"the parameter '{name}' is {kind}, and after `in` stands a list",
                hint=f"give it a list: {{{{ [...] }}}}, or write in (:{name}) for a single value",
            )
    return BoundCall({"database": spec.database, "query": spec.query, "params": params, "max_rows": spec.max_rows})


def payload_form_of(spec: SQLSpec) -> PayloadForm | None:
    """Return the form of the payloads of a statement with parameters, None of a generated one."""
    if spec.query is None:
        return None
    asked = canonical_json([spec.database, spec.query, spec.max_rows]).decode("utf-8", "surrogatepass")
    return PayloadForm({"statement": asked}, held_templates(spec.params, "params"))


def judgement_of(spec: SQLSpec) -> Judgement:
    """Return what the step's statement does, as far as its text tells."""
    from sundog.operators.sql.judge import Judgement, Reach, judge
    from sundog.operators.sql.url import backend_of

    if spec.query is None:
        return Judgement(Reach.VOLATILE, "generated, and refused where it does more than read")
    return judge(spec.query, backend_of(spec.database))


def _check_generated(spec: SQLSpec) -> None:
    from sundog.operators.sql.generated import check_backend
    from sundog.operators.sql.url import backend_of

    if spec.query is not None:
        raise FlowError("a step has one statement: `query` or `generated`", where="query", hint="take out one of them")
    if spec.params:
        hint = "a model writes its values into the statement, or name them in `query`"
        raise FlowError("a generated statement has no parameters", where="params", hint=hint)
    check_backend(backend_of(spec.database))


def _bind_generated(spec: SQLSpec, scope: Scope) -> BoundCall:
    from sundog.operators.sql.generated import read_only
    from sundog.operators.sql.url import backend_of

    assert spec.generated is not None, "checked"
    statement = read_only(render_json(spec.generated, scope), backend_of(spec.database))
    return BoundCall({"database": spec.database, "generated": statement, "max_rows": spec.max_rows})


def marked_for(query: str, url: str) -> str:
    """Return the query with parameters told from other colons, as the database at `url` reads it."""
    from sundog.operators.sql.text import marked
    from sundog.operators.sql.url import backend_of

    return marked(query, backend_of(url))


def lookup_in(spec: SQLSpec) -> Lookup | None:
    """Return how calls of the step may be gathered, None where they may not."""
    from sundog.operators.sql.lookup import lookup_of
    from sundog.operators.sql.url import backend_of

    if spec.query is None:
        return None
    varying = frozenset(name for name, value in spec.params.items() if any(one.names for one in templates_of(value)))
    return lookup_of(spec.query, backend_of(spec.database), varying)


def _check_params(spec: SQLSpec) -> None:
    assert spec.query is not None, "checked"
    wanted = bound_text(marked_for(spec.query, spec.database), ()).compile().params.keys()
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
def bound_text(query: str, lists: tuple[str, ...]) -> TextClause:
    """Return the statement for SQLAlchemy, `lists` its parameters that stand for several values."""
    from sqlalchemy import bindparam, text

    return text(query).bindparams(*(bindparam(name, expanding=True) for name in lists))
