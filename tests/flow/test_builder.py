"""The Python builder: the same plan as the file, and errors at the line of the call."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sundog.errors import FlowError, Location
from sundog.flow.bind import load_flow
from sundog.flow.python.builder import FlowBuilder
from sundog.flow.python.nodes_builder import args, item
from sundog.flow.python.reference import Ref
from sundog.functions import resolve_function
from sundog.ir.logical import LogicalPlan, Step
from sundog.ir.templates.render import render_text
from sundog.ir.templates.template import Template
from sundog.ir.values.canonical import describe_value

HERE = Path(__file__).parent


def everything() -> FlowBuilder:
    flow = FlowBuilder("everything", objective="cost")
    gpu = flow.workers("gpu", count=2, max_resident=3, usd_per_hour=1.5)
    local = flow.engine("local", kind="null", model="tiny", replicas=2)
    remote = flow.engine("remote", kind="null", model="big", latency_s=0.5, workers=gpu)
    flow.limit("sqlite:///filings.db", max_concurrency=3)
    flow.limit("mcp:no-such-server --quiet", max_concurrency=1)
    flow.limit("http://localhost", max_concurrency=40)
    row = flow.input("questions", "data/*.csv", types={"id": "VARCHAR"})
    filings = flow.input("filings", query="select * from 'filings.parquet'", key="filing_id")
    flow.input("owners", call=json.loads, args={"s": "[]"}, key={"owner": "user"})
    tone = flow.constant("tone", "formal")
    limits = flow.constant("limits", {"low": 1, "high": (2, 3)})
    context = flow.sql(
        "context",
        database="sqlite:///filings.db",
        query="select body from filing where id = :id",
        params={"id": filings.id},
        timeout=5,
        retries=1,
        share=False,
    )
    flow.filter("keep", "{{ (context | length) > 0 }}", after=context)
    facts = flow.llm(
        "facts",
        engine=local,
        system=f"You are {tone}.",
        prompt=f"{context[0].body}\n{row.topic}",
        max_tokens=64,
        temperature=0.5,
        seed=3,
        stop=["\n\n"],
        output={"answer": "str", "unit": ["none", "thousand"], "parts": [{"title": "str"}]},
        when="{{ row.topic != 'none' }}",
        share=True,
    )
    part = Ref("part")
    flow.llm(
        "each",
        for_each=facts.parts,
        as_="part",
        engine=remote,
        messages=[
            {"role": "system", "content": "Be short."},
            {"from": row.shots},
            {"role": "user", "content": f"{part.title} {limits.high[0]}"},
        ],
        output={"json_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}},
    )
    with flow.loop("refine", max_turns=limits.high[1], when="{{ facts.unit == 'none' }}") as refine:
        draft = refine.llm(
            "draft",
            engine=local,
            prompt=f"{refine.last.critique.text} {refine.turn}",
            temperature=1,
            seed="{{ loop.history.draft | length }}",
        )
        refine.llm("critique", engine=local, prompt=draft.text)
        refine.until("{{ critique.text == 'ok' }}")
    flow.require("whole", facts.answer, f"no answer about {row.topic}", after="each")
    flow.define(
        "titles",
        "{{ part.title | upper }}",
        for_each=facts.parts,
        as_="part",
        when="{{ facts.unit == 'none' }}",
        after="each",
    )
    flow.llm("guess", engine=local, prompt="{{ titles | vote }}", temperature=0.7, seed=4, samples=3)
    form = {"text": "str", "parts": [{"n": "int"}]}
    audit = flow.python("audit", json.loads, args={"s": refine.value.draft.text}, output=form, after=["each"])
    order = flow.tool(
        "order",
        description="Look up an order.",
        parameters={"number": "int"},
        http={"url": f"http://localhost/orders/{args.number}?by={row.user}"},
        timeout=5,
    )
    paid = flow.tool(
        "paid", description="Mark it as paid.", python={"call": json.loads, "args": {"s": tone}, "effect": True}
    )
    help_ = flow.agent(
        "help",
        engine=local,
        prompt=row.user,
        tools=[order, paid],
        max_turns=4,
        stop_when="{{ turns > 2 and row.id == '1' }}",
        output={"reply": "str"},
        limits={"tokens": 9000},
        when="{{ facts.unit == 'none' }}",
    )
    flow.llm("go_on", engine=local, messages=help_.messages, when="{{ facts.unit == 'none' }}")
    send = flow.http("send", method="POST", url=f"http://localhost/{row.id}", json={"a": audit})
    flow.mcp(
        "tell",
        command=["no-such-server", "--quiet"],
        env={"KEY": "${env:SUNDOG_TEST_SECRET}"},
        tool="tell",
        arguments={"text": send.text},
        stateful=True,
        max_sessions=2,
    )
    labels = ["glad", "angry", 3]
    only = "{{ facts.unit == 'none' }}"
    flow.classify("mood", engine=local, text=facts.answer, labels=labels, many=True, max_tokens=9, when=only)
    kinds = {"tax": f"a {tone} duty", "law": "a rule"}
    flow.classify("sort", engine=local, text=row.topic, labels=kinds, prompt="Which?")
    flow.extract("found", engine=local, text=row.topic, fields={"names": [{"name": "str"}]})
    sure = flow.llm(
        "sure",
        engine=["local", "remote"],
        prompt=row.topic,
        output={"is_sure": "bool"},
        escalate_when="{{ not sure.is_sure }}",
    )
    asked = flow.llm("asked", engine=local, prompt=f"{row.topic} {sure.text}", retries=1, on_error={"engine": "remote"})
    stands_in = {"value": {"why": f"{row.topic} could not be read"}}
    flow.python("parsed", json.loads, args={"s": asked.text}, on_error=stands_in)
    flow.output(id=row.id, answer=f"{facts.answer} ({refine.value.turns})", tokens=facts.usage.output_tokens)
    return flow


def small() -> FlowBuilder:
    flow = FlowBuilder("small")
    flow.engine("local", kind="null", model="tiny")
    flow.input("rows", rows=[{"a": 1}])
    flow.output(a="{{ row.a }}")
    return flow


def test_the_builder_and_the_file_give_equal_plans() -> None:
    from_file = load_flow(HERE / "everything.yaml")
    from_python = everything().plan()
    assert describe_value(from_python) == describe_value(from_file)
    assert from_python == from_file
    assert (
        from_python.limits
        == from_file.limits
        == {
            "sqlite:filings.db": 3,
            "http:http://localhost": 40,
            "mcp:no-such-server --quiet": 1,
        }
    )


def test_the_order_of_nodes_and_columns_is_that_of_the_calls() -> None:
    plan = everything().plan()
    assert [node.name for node in plan.nodes] == [
        "context", "keep", "facts", "each", "refine", "whole", "titles", "guess", "audit", "help", "go_on", "send",
        "tell", "mood", "sort", "found", "sure", "asked", "parsed",
    ]  # fmt: skip
    assert [name for name, _ in plan.tables[0].outputs] == ["id", "answer", "tokens"]


def test_errors_point_at_the_call() -> None:
    flow = small()
    flow.llm("facts", engine="lcal", prompt="x")
    line = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]  # CPython has frames
    flow.output(b="{{ fact.text }}")
    with pytest.raises(FlowError) as caught:
        flow.plan()
    assert caught.value.where == Location(__file__, line, 5)
    assert f"{__file__}:{line + 2}:5: unknown name 'fact'" in str(caught.value)


def test_errors_of_a_loops_steps_point_at_them() -> None:
    flow = small()
    loop = flow.loop("refine", max_turns=2)
    loop.llm("draft", engine="local", prompt="{{ loop.last.draf.text }}")
    line = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]  # CPython has frames
    with pytest.raises(FlowError, match="has no field 'draf'") as caught:
        flow.plan()
    assert caught.value.where == Location(__file__, line, 5)


@pytest.mark.parametrize(
    "twice",
    [
        lambda flow: flow.output(a="{{ row.a }}"),
        lambda flow: flow.engine("local", kind="null"),
        lambda flow: [flow.filter("keep", "{{ row.a }}") for _ in range(2)],
    ],
)
def test_a_name_is_given_once(twice: Any) -> None:
    with pytest.raises(FlowError, match="already"):
        twice(small())


def test_expressions_are_templates() -> None:
    row, page = Ref("row"), Ref("page")
    assert str(row.a) == "{{ row.a }}"
    assert f"{row['a b'][0].c}" == '{{ row["a b"][0].c }}'
    assert str((row.a != "it's") & ~(page.b >= 2) | (row.c == None)) == (  # noqa: E711  # builds an expression
        '{{ ((row.a != "it\'s") and (not (page.b >= 2))) or (row.c == none) }}'
    )
    assert str((row.a < True) & (row.a <= 1.5) & (row.a > page.b)) == (
        "{{ ((row.a < true) and (row.a <= 1.5)) and (row.a > page.b) }}"
    )
    assert str(item.x) == "{{ item.x }}"


def test_an_expression_has_no_value_yet() -> None:
    row = Ref("row")
    with pytest.raises(TypeError, match=r"& \| ~"):
        bool(row.a == 1)
    with pytest.raises(TypeError, match="for_each"):
        list(row.a)
    with pytest.raises(TypeError, match="only text, numbers"):
        row.a == [1]  # noqa: B015  # the comparison itself is refused
    assert not hasattr(row, "_repr_html_")


def plan_of(rows: Any) -> LogicalPlan:
    flow = FlowBuilder("rows")
    row = flow.input("given", rows=rows)
    flow.output(a=row.a)
    return flow.plan()


class Frame:
    """A table of another library, seen only through Arrow's C interface."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__()  # type: ignore[no-untyped-call]  # pyarrow says nothing of it


TABLE = pa.table({"a": [1, 2], "b": ["x", None]})


@pytest.mark.parametrize("rows", [TABLE, Frame(TABLE), TABLE.to_pylist(), tuple(TABLE.to_pylist())])
def test_rows_given_directly_become_a_function_that_yields_them(rows: Any) -> None:
    (source,) = plan_of(rows).inputs
    assert source.call is not None
    for _ in range(2):
        assert list(resolve_function(source.call, base_dir=None)()) == TABLE.to_pylist()


def test_rows_are_known_by_their_content() -> None:
    assert plan_of([{"a": 1}]) == plan_of([{"a": 1}])
    assert plan_of([{"a": 1}]) != plan_of([{"a": 2}])
    assert plan_of(TABLE) == plan_of(Frame(TABLE))
    assert plan_of(TABLE) != plan_of(TABLE.slice(1))


@pytest.mark.parametrize("rows", [[1], 3])
def test_what_is_no_rows_is_refused(rows: Any) -> None:
    with pytest.raises(FlowError, match="rows"):
        plan_of(rows)


def test_a_row_without_a_json_form_is_known_by_its_fault() -> None:
    """Reading it fails that row alone."""
    half = [{"a": 1}, {"a": "\ud800"}]
    assert plan_of(half) == plan_of(list(half)) != plan_of([{"a": 1}, {"a": object()}])


def test_an_input_has_one_source() -> None:
    with pytest.raises(FlowError, match="exactly one of path, query, call and rows"):
        FlowBuilder("two").input("given", "a.csv", rows=[{"a": 1}])


def test_a_function_of_the_script_is_called_by_reference() -> None:
    def double(value: int) -> int:
        return value * 2

    flow = small()
    flow.python("twice", double, args={"value": "{{ row.a }}"})
    (step,) = flow.plan().nodes
    assert isinstance(step, Step)
    reference = describe_value(step.spec)["call"]
    assert resolve_function(reference, base_dir=None) is double


def test_a_value_without_json_form_is_refused_at_the_call() -> None:
    with pytest.raises(FlowError, match="a object cannot stand in a flow") as caught:
        small().constant("thing", object())
    assert isinstance(caught.value.where, Location)
    assert caught.value.where.file == __file__


def test_text_beside_a_value_is_a_template() -> None:
    price = Ref("row").price
    assert "Price: " + price == "Price: {{ row.price }}"
    assert price + " euros" == "{{ row.price }} euros"


@pytest.mark.parametrize(
    ("write", "hint"),
    [
        (lambda price: f"{price:.2f}", 'write {{ "%.2f" | format(row.price) }}'),
        (lambda price: price + 1, "write {{ row.price + 1 }} as text"),
        (lambda price: 1 + price, "write {{ row.price + 1 }} as text"),
        (lambda price: price * 2, "write {{ row.price * 2 }} as text"),
        (lambda price: price - price, "write {{ row.price - row.price }} as text"),
        (lambda price: price / 3, "write {{ row.price / 3 }} as text"),
        (lambda price: price % 3, "write {{ row.price % 3 }} as text"),
        (lambda price: price + price, 'write {{ row.price + row.price }} as text or, for text, f"{...}{...}"'),
        (lambda price: price.upper(), "a template has filters, as in {{ row.name | upper }}"),
    ],
)
def test_what_a_value_cannot_do_yet_says_what_to_write(write: Any, hint: str) -> None:
    with pytest.raises(TypeError) as caught:
        write(Ref("row").price)
    assert "is known only when the flow runs" in str(caught.value)
    assert hint in str(caught.value)


def test_the_written_formats_work_in_a_template() -> None:
    assert render_text(Template('{{ "%.2f" | format(row.price) }}'), {"row": {"price": 3}}) == "3.00"


def test_a_folder_may_be_given_as_text(tmp_path: Path) -> None:
    assert FlowBuilder("f", base_dir=str(tmp_path)).base_dir == tmp_path
    assert FlowBuilder("f").base_dir == Path()
