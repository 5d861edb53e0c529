"""Calls that are not asked for prove what they are said to prove, whatever the templates and the rows are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sundog.errors import OperatorError
from sundog.flow.bind import bind
from sundog.ir.logical import steps_of
from sundog.ir.templates.template import Template
from sundog.ir.values.canonical import canonical_json
from sundog.operators.base import OPERATORS
from sundog.optimizer.exchange import TableExchange, exchange_of
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.payload_shapes import TextShape, template_pieces
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


def check(tables: list[list[dict[str, Any]]], rows: list[dict[str, Any]]) -> None:
    by_name, exchanges = planned(tables)
    places: dict[bytes, set[tuple[int, bytes]]] = defaultdict(set)
    unasked: set[bytes] = set()
    for number, found in enumerate(exchanges):
        for step, row in product(map(by_name.__getitem__, found.steps), rows):
            scope = {"row": row, "tone": "a"}
            try:
                call = OPERATORS_HERE[step.operator].bind(step.spec, scope, {"e": {"kind": "null"}})
            except OperatorError:
                continue
            key = canonical_json([step.operator, call.payload])
            places[key].add((number, canonical_json(row["m"])))
            if not found.asks_owner(step.name, call.payload, is_split=False):
                unasked.add(key)
    for key in unasked:
        assert len(places[key]) == 1, (key, places[key])


SETTINGS = settings(deadline=None, derandomize=True, max_examples=400, suppress_health_check=list(HealthCheck))


@SETTINGS
@given(tables=st.lists(st.lists(steps(), min_size=1, max_size=3), min_size=1, max_size=2), rows=rows)
def test_equal_calls_of_which_one_is_not_asked_for_have_one_partition_value(
    tables: list[list[dict[str, Any]]], rows: list[dict[str, Any]]
) -> None:
    check(tables, rows)


few_texts = st.lists(st.sampled_from([",", "b", "{{ row.m }}", "{{ row.q }}"]), min_size=1, max_size=4).map("".join)
few_values = st.lists(st.sampled_from([",", "b"]), max_size=2).map("".join)


@SETTINGS
@given(
    prompts=st.lists(few_texts, min_size=2, max_size=2),
    rows=st.lists(st.fixed_dictionaries({"m": few_values, "q": few_values}), min_size=8, max_size=24),
)
def test_the_same_where_texts_run_into_each_other(prompts: list[str], rows: list[dict[str, Any]]) -> None:
    check([[{"llm": {"engine": "e", "prompt": prompt}} for prompt in prompts]], rows)


@given(
    pieces=st.lists(st.sampled_from([",", "b", None]), max_size=6), values=st.lists(few_values, min_size=6, max_size=6)
)
def test_what_a_template_gives_is_of_its_shape(pieces: list[str | None], values: list[str]) -> None:
    template = Template("".join("{{ row.m }}" if piece is None else piece for piece in pieces))
    text = "".join(value if piece is None else piece for piece, value in zip(pieces, values, strict=False))
    shape = TextShape.of(template_pieces(template, {}))
    assert shape.matches(text)
    assert shape.may_meet(TextShape.of((text,)))


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("a", "b"),
        ("a{{ m }}", "b"),
        ("{{ m }}a", "ab"),
        ("{{ m }},{{ m }}", "ab"),
        ("{{ m }},{{ m }},{{ m }}", "a,b"),
        ("a{{ m }}a", "a"),
        ("{{ m }},{{ q }}.{{ m }}", "a.,b"),
    ],
)
def test_other_texts_are_not(template: str, text: str) -> None:
    assert not TextShape.of(template_pieces(Template(template), {})).matches(text)
