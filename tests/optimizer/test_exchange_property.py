"""Calls that are not asked for prove what they are said to prove, whatever the templates and the rows are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sundog.errors import OperatorError
from sundog.flow.bind import bind
from sundog.ir.logical import steps_of
from sundog.ir.values.canonical import canonical_json
from sundog.operators.base import OPERATORS
from sundog.optimizer.exchange import TableExchange, exchange_of
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.planner import plan_physical
from tests.optimizer.bench import Nowhere

OPERATORS_HERE = {name: OPERATORS.get(name)(Path()) for name in ("llm", "sql", "http")}
TEXTS = ["a", "aa", ",", "a,", "1", "-", "[", "T"]
VALUES: list[Any] = [None, "", "a", "aa", "a,a", ",", "aa,", 1, "1", 1.0, True, "True", ["a"], "['a']", -1, "-1", "Ta"]
PIECES = [*TEXTS, "{{ row.m }}", "{{ row.m }}", "{{ row.q }}", "{{ tone }}", "{{ row.m | upper }}", "{{ [row.m] }}"]

templates = st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join)
expressions = st.sampled_from(["{{ row.m }}", "{{ row.q }}", "{{ row.m ~ '' }}"]) | templates


@st.composite
def steps(draw: st.DrawFn) -> dict[str, Any]:
    match draw(st.sampled_from(["llm", "llm", "llm", "sql", "http"])):
        case "llm":
            system = draw(st.none() | templates)
            asked = {"engine": "e", "prompt": draw(templates), "max_tokens": draw(st.sampled_from([None, 9]))}
            return {"llm": asked if system is None else {**asked, "system": system}}
        case "sql":
            query = draw(st.sampled_from(["select 1 where :p = :p", "select 2 where :p = :p"]))
            return {"sql": {"database": "sqlite:///d.db", "query": query, "params": {"p": draw(expressions)}}}
    return {"http": {"url": "http://h/" + draw(templates), "params": {"p": draw(expressions)}}}


rows = st.lists(st.fixed_dictionaries({"m": st.sampled_from(VALUES), "q": st.sampled_from(VALUES)}), max_size=12)


def planned(tables: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[dict[str, Any], list[TableExchange]]:
    flow = {
        "name": "f",
        "engines": {"e": {"kind": "null"}},
        "inputs": {"rows": {"path": "rows.csv"}},
        "constants": {"tone": "a"},
        "tables": {
            f"t{number}": {
                "from": "rows",
                "nodes": {f"s{number}_{at}": node for at, node in enumerate(nodes)},
                "outputs": {"m": "{{ row.m }}"},
            }
            for number, nodes in enumerate(tables)
        },
    }
    plan = bind(flow, Nowhere(), base_dir=Path())
    physical = plan_physical(plan, OPERATORS_HERE)
    facts = PlanFacts(plan, OPERATORS_HERE)
    found = [exchange_of(physical, f"t{number}", ("row", "m"), facts) for number in range(len(tables))]
    return {step.name: step for step in steps_of(plan.nodes)}, found


@settings(deadline=None, derandomize=True, max_examples=600, suppress_health_check=list(HealthCheck))
@given(tables=st.lists(st.lists(steps(), min_size=1, max_size=3), min_size=1, max_size=2), rows=rows)
def test_equal_calls_of_which_one_is_not_asked_for_have_one_partition_value(
    tables: list[list[dict[str, Any]]], rows: list[dict[str, Any]]
) -> None:
    by_name, exchanges = planned(tables)
    places: dict[bytes, set[tuple[int, bytes]]] = defaultdict(set)
    asked: dict[bytes, set[tuple[int, bool]]] = defaultdict(set)
    for number, found in enumerate(exchanges):
        for name in found.steps:
            step = by_name[name]
            for row in rows:
                try:
                    call = OPERATORS_HERE[step.operator].bind(
                        step.spec, {"row": row, "tone": "a"}, {"e": {"kind": "null"}}
                    )
                except OperatorError:
                    continue
                key = canonical_json([step.operator, call.payload])
                places[key].add((number, canonical_json(row["m"])))
                asked[key].add((number, found.asks_owner(name, call.payload, is_split=False)))
    for key, said in asked.items():
        if any(not asks for _, asks in said):
            assert len(places[key]) == 1, (key, places[key])
