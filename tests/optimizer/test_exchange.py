"""The place where equal calls of a step meet: the choice for each kind of step, and what a call proves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sundog.flow.bind import bind
from sundog.ir.logical import steps_of
from sundog.ir.templates.template import Path as ValuePath
from sundog.operators.base import OPERATORS
from sundog.optimizer.exchange import Meeting, TableExchange, exchange_of
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.planner import PlannerOptions, plan_physical
from tests.optimizer.bench import Nowhere

MANUAL = ("row", "manual")
TOOLS = {
    "look": {
        "description": "Looks a word up.",
        "parameters": {"q": "str"},
        "sql": {
            "database": "sqlite:///d.db",
            "query": "select 1 where :q = :m",
            "params": {"q": "{{ args.q }}", "m": "{{ row.manual }}"},
        },
    }
}


def llm(prompt: str, **more: Any) -> dict[str, Any]:
    return {"llm": {"engine": "e", "prompt": prompt, **more}}


def sql(query: str, **params: Any) -> dict[str, Any]:
    return {"sql": {"database": "sqlite:///d.db", "query": query, "params": params}}


def exchange(
    nodes: dict[str, Any],
    partition: ValuePath | None = MANUAL,
    *,
    elides: bool = True,
    merges: bool = True,
    **more: Any,
) -> TableExchange:
    flow = {
        "name": "f",
        "engines": {"e": {"kind": "null"}, "v": {"kind": "null"}},
        "inputs": {"rows": {"path": "rows.csv"}},
        "nodes": nodes,
        "outputs": {"a": "{{ row.manual }}"},
        **more,
    }
    plan = bind(flow, Nowhere(), base_dir=Path())
    operators = {one.operator: OPERATORS.get(one.operator)(Path()) for one in steps_of(plan.nodes)}
    physical = plan_physical(plan, operators, PlannerOptions(merges_calls=merges))
    return exchange_of(physical, physical.tables[0].name, partition, PlanFacts(plan, operators), elides=elides)


def meetings(nodes: dict[str, Any], **more: Any) -> dict[str, str]:
    return {name: one.meeting.value for name, one in exchange(nodes, **more).steps.items()}


@pytest.mark.parametrize(
    ("node", "expected", "reason"),
    [
        (llm("Read {{ row.manual }}"), "bucket", "its calls hold row.manual; those that leave it in doubt ask"),
        (llm("{{ row.manual }}\n\nQ: {{ row.q }}"), "bucket", ""),
        (llm("{{ row.manual }}\n{{ row.q }}\n{{ row.b }}"), "owner", "its calls do not show where row.manual ends"),
        (llm("{{ row.manual }}\n{{ row.q }}\n"), "bucket", ""),
        (llm("{{ row.manual }}{{ row.q }}"), "owner", "its calls do not show where row.manual ends"),
        (llm("{{ row.q }}: {{ row.manual }}"), "owner", "its calls do not show where row.manual ends"),
        (llm("{{ tone }}: {{ row.manual }}"), "bucket", ""),
        (llm("{{ row.manual }}{{ tone }}{{ row.q }}"), "bucket", ""),
        (llm("{{ empty }}{{ row.manual }}{{ empty }}{{ row.q }}"), "owner", ""),
        (llm("{{ empty }}{{ row.manual }}{{ empty }}, {{ row.q }}"), "bucket", ""),
        (llm("{{ row.manual | trim }}"), "owner", ""),
        (llm("{{ row.manual | upper }} and {{ row.q }}"), "owner", ""),
        (llm("{{ row.manual.title }}"), "owner", "its calls do not hold row.manual itself"),
        (llm("{{ row }}"), "owner", "its calls do not hold row.manual itself"),
        (llm("{{ row.q }}"), "owner", "its calls do not hold row.manual itself"),
        (llm("{{ row.q }}", system="{{ row.manual }}"), "bucket", ""),
        (llm("Q", temperature=1.0), "alone", "its calls are each row's own"),
        (llm("{{ row.manual }}", temperature=1.0), "alone", ""),
        ({**llm("{{ row.manual }}", temperature=1.0), "share": True}, "bucket", ""),
        ({**llm("{{ row.manual }}"), "share": False}, "alone", ""),
        ({**llm("{{ row.manual }}: {{ item }}"), "for_each": "{{ row.qs }}"}, "bucket", ""),
        ({"embed": {"engine": "v", "text": "{{ row.manual }}"}}, "bucket", ""),
        (sql("select 1 where :m = 1", m="{{ row.manual }}"), "bucket", "its calls hold row.manual"),
        (sql("select 1 where :m = 1", m="{{ row.manual }}!"), "bucket", ""),
        (sql("select 1 where :m = 1", m="{{ row.q }}"), "owner", ""),
        (sql("insert into t values (:m)", m="{{ row.manual }}"), "alone", "an effect is each row's own"),
        ({"http": {"url": "https://h/{{ row.manual }}"}}, "bucket", ""),
        ({"http": {"url": "https://h/", "params": {"m": "{{ row.manual }}"}}}, "bucket", ""),
        ({"http": {"url": "https://h/", "method": "POST", "json": {"m": "{{ row.manual }}"}}}, "alone", ""),
        ({"python": {"call": "json:dumps", "args": {"obj": "{{ row.manual }}"}}}, "alone", ""),
        ({"python": {"call": "json:dumps", "args": {"obj": "{{ row.manual }}"}}, "share": True}, "bucket", ""),
    ],
)
def test_each_kind_of_step(node: dict[str, Any], expected: str, reason: str) -> None:
    found = exchange({"a": node}, constants={"tone": "calm", "empty": ""}).steps["a"]
    assert found.meeting.value == expected
    assert reason in found.reason


def parts(*content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(content)}]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"role": "user", "content": "{{ row.manual }}"}, {"from": "{{ row.said }}"}], "bucket"),
        # The number of messages before it is not known.
        ([{"from": "{{ row.said }}"}, {"role": "user", "content": "{{ row.manual }}"}], "owner"),
        (parts({"text": "{{ row.manual }}"}, {"text": "{{ row.q }}"}), "owner"),
        # Two files may hold the same.
        (parts({"image": "{{ row.manual }}"}), "owner"),
        ([{"role": "user", "content": "{{ row.manual }}"}, *parts({"image": "{{ row.q }}"})], "bucket"),
    ],
)
def test_messages(messages: list[Any], expected: str) -> None:
    ask = {"llm": {"engine": "p", "messages": messages}}
    engine = {"kind": "openai", "model": "m", "base_url": "http://h", "api": "chat"}
    assert meetings({"a": ask}, engines={"p": engine}) == {"a": expected}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (llm("A {{ row.manual }}"), llm("B {{ row.q }}"), ["bucket", "owner"]),
        (llm("A {{ row.manual }}"), llm("A {{ row.q }}"), ["owner", "owner"]),
        (llm("A {{ row.manual }}"), llm("{{ row.q }}", system="S"), ["bucket", "owner"]),
        (llm("A {{ row.manual }}"), llm("A {{ row.q }}", max_tokens=9), ["bucket", "owner"]),
        (llm("A {{ row.manual }}"), llm("A {{ row.q }}", temperature=1.0), ["bucket", "alone"]),
        (llm("A {{ row.manual }}"), {"embed": {"engine": "v", "text": "A {{ row.q }}"}}, ["bucket", "owner"]),
        (llm("A {{ row.manual }}."), llm("A {{ row.q }}!"), ["bucket", "owner"]),
        (llm("A {{ row.manual }}"), llm("AA {{ row.manual }}"), ["bucket", "bucket"]),
        # What the first makes of one manual the second makes of another; only some calls can be such.
        (llm("A {{ row.manual }}"), llm("A A {{ row.manual }}"), ["bucket", "owner"]),
        (llm("{{ row.manual }}\n\nSum up."), llm("{{ row.manual }}\n\nQ: {{ row.q }}"), ["bucket", "bucket"]),
        (llm("{{ row.manual }}: {{ row.q }}"), llm("{{ row.q }}"), ["owner", "owner"]),
        # Both tell the manual in the same way.
        (llm("A {{ row.manual }}"), {**llm("A {{ row.manual }}"), "when": "{{ row.q }}"}, ["bucket", "bucket"]),
        (sql("select 1 where :m = 1", m="{{ row.manual }}"), sql("select 2 where :m = 1", m="{{ row.q }}"), None),
        (
            sql("select 1 where :m = 1", m="{{ row.manual }}"),
            sql("select 1 where :m = 1", m="{{ row.q }}"),
            ["owner", "owner"],
        ),
    ],
)
def test_another_step_that_may_make_the_same_call(first: Any, second: Any, expected: list[str] | None) -> None:
    assert list(meetings({"a": first, "b": second}).values()) == (expected or ["bucket", "owner"])


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("m\n\nSum up.", False),
        ("m\n\nQ: q", False),
        # "m" with a question that ends so, or a manual with a question in it.
        ("m\n\nQ: q\n\nSum up.", True),
    ],
)
def test_a_call_that_two_steps_may_make_is_asked_for(text: str, asks: bool) -> None:
    found = exchange({"a": llm("{{ row.manual }}\n\nSum up."), "b": llm("{{ row.manual }}\n\nQ: {{ row.q }}")})
    made = [name for name, ends in (("a", text.endswith("Sum up.")), ("b", "Q: " in text)) if ends]
    assert {found.asks_owner(name, messages(text), is_split=False) for name in made} == {asks}


def test_the_step_that_stands_in_the_way_is_named() -> None:
    found = exchange({"a": llm("A {{ row.manual }}"), "b": llm("A {{ row.q }}")})
    assert found.steps["a"].reason == "'b' may make the same call"


def test_a_step_of_another_table_stands_in_the_way_though_it_is_alike() -> None:
    tables = {
        "first": {"from": "rows", "nodes": {"a": llm("A {{ row.manual }}")}, "outputs": {"manual": "{{ row.manual }}"}},
        "second": {"from": "rows", "nodes": {"b": llm("A {{ row.manual }}")}, "outputs": {"x": "{{ b.text }}"}},
    }
    flow = {"name": "f", "engines": {"e": {"kind": "null"}}, "inputs": {"rows": {"path": "rows.csv"}}, "tables": tables}
    plan = bind(flow, Nowhere(), base_dir=Path())
    operators = {"llm": OPERATORS.get("llm")(Path())}
    physical = plan_physical(plan, operators)
    found = exchange_of(physical, "first", MANUAL, PlanFacts(plan, operators))
    assert found.steps["a"].reason == "'b' may make the same call"


def test_loops_alternatives_and_agents() -> None:
    nodes = {
        "turns": {"loop": {"nodes": {"a": llm("A {{ row.manual }}")}, "until": "{{ a.text }}", "max_turns": 2}},
        "first": {**llm("B {{ row.manual }}"), "on_error": {"engine": "v"}},
        "help": {"agent": {"engine": "e", "prompt": "C {{ row.manual }}", "tools": ["look"]}},
        "answer": llm("D {{ first.text }}"),
    }
    found = meetings(nodes, tools=TOOLS)
    assert found == {
        "a": "bucket",
        "first__e": "bucket",
        "first__v": "bucket",
        "help__turn": "owner",
        "help__look": "owner",
        "answer": "owner",
    }


def test_without_a_value_and_without_elision_owners_are_asked() -> None:
    nodes = {"a": llm("{{ row.manual }}"), "b": llm("{{ row.manual }}", temperature=1.0)}
    assert meetings(nodes, partition=None) == meetings(nodes, elides=False) == {"a": "owner", "b": "alone"}
    assert meetings(nodes, merges=False) == {"a": "alone", "b": "alone"}


def messages(text: str) -> dict[str, Any]:
    return {"messages": [["user", text]]}


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("Read a manual", False),
        ("Read ", True),  # null and "" look alike
        ("Read 12", True),  # as do 12 and "12"
        ("Read -1", True),
        ("Read True", True),
        ("Read Truely", False),
        ("Read [1]", True),
        ("Read {'a': 1}", True),
    ],
)
def test_a_text_that_a_number_could_show_is_asked_for(text: str, asks: bool) -> None:
    found = exchange({"a": llm("Read {{ row.manual }}")})
    assert found.asks_owner("a", messages(text), is_split=False) is asks
    assert found.asks_owner("a", messages(text), is_split=True)


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("m, q.", False),
        ("m, m, q.", True),  # "m" and "m, q", or "m, m" and "q"
        ("m,, q.", False),
        (", q.", True),
    ],
)
def test_a_text_that_does_not_show_its_end_is_asked_for(text: str, asks: bool) -> None:
    found = exchange({"a": llm("{{ row.manual }}, {{ row.q }}.")})
    assert found.asks_owner("a", messages(text), is_split=False) is asks


def test_overlapping_ends_are_two() -> None:
    found = exchange({"a": llm("{{ row.manual }}--{{ row.q }}")})
    assert found.asks_owner("a", messages("m---q"), is_split=False)


def test_an_argument_is_asked_for_only_where_its_bucket_is_split() -> None:
    found = exchange({"a": sql("select 1 where :m = 1", m="{{ row.manual }}")})
    assert not found.asks_owner("a", {"params": {"m": 12}}, is_split=False)
    assert found.asks_owner("a", {"params": {"m": 12}}, is_split=True)


def test_what_nobody_shares_is_never_asked_for() -> None:
    found = exchange({"a": llm("{{ row.manual }}", temperature=1.0)})
    assert found.steps["a"].meeting is Meeting.ALONE
    assert not found.asks_owner("a", messages("m"), is_split=True)
