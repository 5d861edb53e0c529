"""The lists of functions against those of the installed DuckDB."""

from __future__ import annotations

import re

import duckdb
import pytest
from sqlglot import exp

from sundog.queries.check import complaints_of
from sundog.queries.functions import ORDERED_AGGREGATES, PURE_NAMES, VOLATILE_NAMES, unknown_function
from sundog.queries.parsed import UnreadableQuery, parse_query

Functions = dict[str, list[tuple[str, str | None, str, str | None]]]


@pytest.fixture(scope="module")
def functions() -> Functions:
    """Return all functions by name: kind, stability, types of the parameters and text of a macro, for each form."""
    rows = duckdb.connect().execute(
        "select function_name, function_type, stability, cast(parameter_types as varchar), macro_definition"
        " from duckdb_functions()"
    )
    found: Functions = {}
    for name, *form in rows.fetchall():
        found.setdefault(name, []).append((form[0], form[1], form[2], form[3]))
    return found


def refused(name: str) -> bool:
    """Return whether no call of the function gets through, whichever way it is written."""
    for call in (f'"{name}"(y)', f"{name}(y)", f"{name}()", f"y.{name}()", f"main.{name}(y, z)"):
        try:
            if not complaints_of(parse_query(f"select {call} as x from a"), ["a"]):
                return False
        except UnreadableQuery:
            continue
    return True


def test_every_function_that_differs_each_time_is_refused(functions: Functions) -> None:
    """Functions of which one form only looks at the time zone are allowed: a run fixes it."""
    differing = [
        name
        for name, forms in functions.items()
        if all(
            stability in ("VOLATILE", "CONSISTENT_WITHIN_QUERY") for kind, stability, *_ in forms if kind == "scalar"
        )
        and any(kind == "scalar" for kind, *_ in forms)
    ]
    assert len(differing) > 25
    zoned = {"make_timestamptz", "timezone"}
    assert [name for name in differing if name not in zoned and not refused(name)] == []


def test_what_depends_on_the_session_in_some_forms_depends_on_the_time_zone(functions: Functions) -> None:
    others = [
        (name, types)
        for name, forms in functions.items()
        for kind, stability, types, _ in forms
        if kind == "scalar" and stability == "CONSISTENT_WITHIN_QUERY" and name not in VOLATILE_NAMES
        if not re.search("TIME ?ZONE|TIMESTAMPTZ|TIME WITH|TIMESTAMP WITH", types)
    ]
    assert {name for name, _ in others} <= {"make_timestamptz", "timezone"}


def test_macros_over_what_differs_each_time_are_refused(functions: Functions) -> None:
    words = re.compile(rf"\b({'|'.join(VOLATILE_NAMES)})\b")
    names = [
        name
        for name, forms in functions.items()
        if any(kind == "macro" and text and words.search(text) for kind, _, _, text in forms)
    ]
    assert "ago" in names
    harmless = {"json_group_object"}  # it raises for a null key
    assert [name for name in names if name not in harmless and not refused(name)] == []


def test_the_functions_that_look_at_one_row_do(functions: Functions) -> None:
    installed = [name for name in PURE_NAMES if name in functions]
    assert len(installed) > 300
    wrong = [
        name
        for name in installed
        for kind, stability, *_ in functions[name]
        if kind not in ("scalar", "macro", "table") or stability == "VOLATILE"
    ]
    assert wrong == []
    assert not PURE_NAMES & VOLATILE_NAMES
    assert not PURE_NAMES & ORDERED_AGGREGATES


def test_no_aggregate_window_or_unnesting_is_taken_for_a_function_of_one_row(functions: Functions) -> None:
    many = {
        name
        for name, forms in functions.items()
        for kind, _, _, text in forms
        if kind in ("aggregate", "window") or (text and re.search(r"\b(unnest|list|sum|avg|string_agg)\(", text))
    }
    assert len(many) > 90
    assert not many & PURE_NAMES
    unseen = [name for name in sorted(many) if name.isidentifier() and not seen(name)]
    assert unseen == []


def seen(name: str) -> bool:
    """Return whether a call of the function is seen, with as many arguments as it can be read with."""
    for arguments in ("x", "x, y", ""):
        try:
            query = parse_query(f"select {name}({arguments}) as y from a")
        except UnreadableQuery:
            continue
        return unknown_function(query, query.tree.walk()) is not None
    return False


def test_functions_by_the_syntax_of_sql_are_known() -> None:
    text = (
        "select coalesce(a, b), nullif(a, b), if(a, b, c), case when a then b end, a::int, try_cast(a as int), a || b,"
        " extract(year from t), substring(a from 2), trim(both from a), position('a' in b), a ** b, a ->> 'x', [1, 2],"
        " {'a': 1}, map {'a': 1}, a ~ 'x', a like 'x', a in (1, 2), a between 1 and 2, not a, l[1], l[1:2],"
        " [v + 1 for v in l if v > 1], list_transform(l, lambda v: v + 1), a.upper(), interval '1' day,"
        " date '2020-01-01', a at time zone 'UTC', a is distinct from b, age(a, b), $p from t"
    )
    query = parse_query(text)
    assert unknown_function(query, query.tree.walk()) is None
    assert sum(1 for _ in query.tree.find_all(exp.Func)) > 20
