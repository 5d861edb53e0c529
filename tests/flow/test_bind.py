"""Right flows and the plans they give; wrong ones are in tests/golden/flow_errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sundog.errors import FlowError, InputError, Location
from sundog.flow.bind import bind, load_flow
from sundog.flow.columns import check_columns
from sundog.flow.positions import read_document
from sundog.ir.logical import Filter, ForEach, InputSource, LogicalPlan, Loop, Step
from sundog.ir.schemas.shape import Anything, ListOf, Record, Scalar
from sundog.ir.templates.template import Template

EVERYTHING = Path(__file__).parent / "everything.yaml"


def plan_of(nodes: str = "", outputs: str = '{id: "{{ row.id }}"}', more: str = "") -> LogicalPlan:
    text = (
        "name: test\nengines: {local: {kind: null, model: tiny}}\n"
        f"inputs: {{main: main.csv}}\n{more}nodes: {{{nodes}}}\noutputs: {outputs}\n"
    )
    document = read_document(text, "flow.yaml")
    return bind(document.data, document.positions, base_dir=Path())


def llm(prompt: str, more: str = "") -> str:
    return f'{{llm: {{engine: local, prompt: "{prompt}"}}{more}}}'


def test_the_parts_of_a_plan() -> None:
    plan = load_flow(EVERYTHING)
    assert [(block.name, block.kind, block.options["replicas"]) for block in plan.engines] == [
        ("local", "null", 2),
        ("remote", "null", 1),
    ]
    assert plan.inputs == (
        InputSource("questions", path="data/*.csv", types={"id": "VARCHAR"}),
        InputSource("filings", query="select * from 'filings.parquet'", key=("filing_id", "filing_id")),
        InputSource("owners", call="json:loads", args={"s": "[]"}, key=("owner", "user")),
    )
    assert plan.constants == {"tone": "formal", "limits": {"low": 1, "high": [2, 3]}}
    context, keep, facts, each, refine, whole, _, _, audit, *_ = plan.nodes
    assert isinstance(context, Step)
    assert (context.operator, context.timeout_s, context.retries, context.share) == ("sql", 5, 1, False)
    assert keep == Filter("keep", Template("{{ (context | length) > 0 }}"), ("context",))
    assert isinstance(whole, Filter)
    assert (whole.predicate, whole.reason) == (
        Template("{{ facts.answer }}"),
        Template("no answer about {{ row.topic }}"),
    )
    assert isinstance(facts, Step)
    assert (facts.when, facts.share, facts.for_each) == (Template("{{ row.topic != 'none' }}"), True, None)
    assert isinstance(each, Step)
    assert each.for_each == ForEach(Template("{{ facts.parts }}"), "part")
    assert isinstance(refine, Loop)
    assert (refine.max_turns, refine.until) == (
        Template("{{ limits.high[1] }}"),
        Template("{{ critique.text == 'ok' }}"),
    )
    assert [node.name for node in refine.body] == ["draft", "critique"]
    assert isinstance(audit, Step)
    assert audit.after == ("each",)
    assert [name for name, _ in plan.tables[0].outputs] == ["id", "answer", "tokens"]


def test_parts_know_where_they_were_written() -> None:
    plan = plan_of(f"facts: {llm('a')}")
    assert plan.nodes[0].location == Location("flow.yaml", 4, 9)
    assert plan.inputs[0].location == Location("flow.yaml", 3, 10)
    assert plan.engines[0].location == Location("flow.yaml", 2, 11)


def test_steps_may_be_written_in_any_order() -> None:
    plan = plan_of(f"b: {llm('{{ a.text }}')}, a: {llm('x')}")
    assert [node.name for node in plan.nodes] == ["b", "a"]


@pytest.mark.parametrize(
    "prompt",
    [
        "{% for part in row.parts %}{{ part.name }} {{ loop.index }}{% endfor %}",
        "{% set short = row.text[:3] %}{{ short }}",
        "{{ limits.low }} {{ limits.high[0].anything }} {{ limits.items() | list }}",
        "{{ row.text.upper() }} {{ range(3) | join }}",
        "{{ row['a column'] }} {{ row.other.column }}",
        "no template at all, ${not a secret}",
    ],
)
def test_what_templates_may_read(prompt: str) -> None:
    assert plan_of(f"facts: {llm(prompt)}", more="constants: {limits: {low: 1, high: [2]}}\n").nodes


def test_the_variable_of_for_each_is_free_for_each_step() -> None:
    each = ", for_each: '{{ row.parts }}'"
    assert plan_of(f"a: {llm('{{ item.x }}', each)}, b: {llm('{{ item.y }}', each)}").nodes
    each += ", as: part"
    assert plan_of(f"a: {llm('{{ part.x }}', each)}, b: {llm('{{ part.y }}', each)}").nodes


def test_a_loop_sees_what_is_around_it_and_a_loop_inside_sees_its_own_turns() -> None:
    deep = llm("{{ first.text }}{{ outer.text }}{{ loop.last.deep.text }}")
    inner = f"{{loop: {{max_turns: 2, nodes: {{deep: {deep}}}}}}}"
    outer = f"{{loop: {{max_turns: 2, nodes: {{outer: {llm('{{ loop.last.again.deep.text }}')}, again: {inner}}}}}}}"
    plan = plan_of(f"first: {llm('x')}, turns_of: {outer}", '{id: "{{ turns_of.again.deep.text }}"}')
    assert isinstance(plan.nodes[1], Loop)


def test_the_value_of_for_each_is_a_list() -> None:
    each = ", for_each: '{{ row.parts }}'"
    plan_of(f"a: {llm('{{ item }}', each)}", '{id: "{{ a[0].text }}"}')
    with pytest.raises(FlowError, match="is a list"):
        plan_of(f"a: {llm('{{ item }}', each)}", '{id: "{{ a.text }}"}')


def test_secrets_stay_names() -> None:
    headers = '{headers: {Authorization: "Bearer ${env:TOKEN}"}, url: "http://localhost/"}'
    plan = plan_of(f"look: {{http: {headers}}}")
    assert "${env:TOKEN}" in str(plan)


@pytest.mark.parametrize(
    "place",
    [
        "a: {when: \"{{ '${env:TOKEN}' }}\", llm: {engine: local, prompt: x}}",
        "a: {filter: \"{{ row.a == '${env:TOKEN}' }}\"}",
        "a: {for_each: \"{{ ['${env:TOKEN}'] }}\", llm: {engine: local, prompt: x}}",
        'a: {llm: {engine: local, prompt: x, output: {b: [c, "${env:TOKEN}"]}}}',
        "a: {loop: {max_turns: 2, until: \"{{ b.text == '${env:TOKEN}' }}\", "
        "nodes: {b: {llm: {engine: local, prompt: x}}}}}",
    ],
)
def test_secrets_are_refused_where_they_would_be_data(place: str) -> None:
    with pytest.raises(FlowError, match=r"secret .* may not stand here"):
        plan_of(place)


def test_secrets_are_refused_in_constants_and_outputs() -> None:
    with pytest.raises(FlowError, match="may not stand here"):
        plan_of(more='constants: {a: ["${env:TOKEN}"]}\n')
    with pytest.raises(FlowError, match="may not stand here"):
        plan_of(outputs='{id: "${env:TOKEN}"}')


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"name: \xff", "not UTF-8"), (None, "cannot be read: No such file"), (b"\xef\xbb\xbfname: x", "needs an input")],
)
def test_files_that_are_no_flow(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    path = tmp_path / "flow.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FlowError, match=complaint) as caught:
        load_flow(path)
    assert str(path) in str(caught.value)


FULL = Record.of(
    id=Scalar(),
    topic=Scalar(),
    filing_id=Scalar(),
    user=Scalar(),
    shots=Anything(),
    filings=Record.of(id=Scalar(), filing_id=Scalar()),
    owners=Record.of(owner=Scalar()),
)


def without(shape: Record, *path: str) -> Record:
    fields: list[tuple[str, Any]] = []
    for name, inner in shape.fields:
        if name != path[0]:
            fields.append((name, inner))
        elif len(path) > 1:
            fields.append((name, without(inner, *path[1:])))  # type: ignore[arg-type]  # the test names records
    return Record(tuple(fields))


def check_row(plan: LogicalPlan, shape: Record) -> None:
    check_columns(plan.tables[0], plan.inputs, shape)


def test_columns_that_are_there_pass() -> None:
    check_row(load_flow(EVERYTHING), FULL)


@pytest.mark.parametrize(
    ("path", "line", "complaint"),
    [
        (("topic",), 25, "the input has no column 'topic'"),
        (("filings", "id"), 14, "'row.filings' has no field 'id'"),
        (("filing_id",), 8, "the input has no column 'filing_id'"),
        (("filings", "filing_id"), 8, "'row.filings' has no field 'filing_id'"),
        (("user",), 9, "the input has no column 'user'"),
        (("owners", "owner"), 9, "'row.owners' has no field 'owner'"),
    ],
)
def test_a_missing_column_is_said_where_it_is_read(path: tuple[str, ...], line: int, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        check_row(load_flow(EVERYTHING), without(FULL, *path))
    assert isinstance(caught.value.where, Location)
    assert caught.value.where.line == line


def test_a_missing_column_of_an_output_names_the_output() -> None:
    with pytest.raises(InputError, match="no column 'id'") as caught:
        check_row(plan_of(), Record.of(idd=Scalar()))
    assert (caught.value.where, caught.value.hint) == ("outputs.id", "did you mean 'idd'?")


def test_columns_of_columns_are_read_as_far_as_they_are_known() -> None:
    plan = plan_of(outputs='{id: "{{ row.parts[0].name }}"}')
    check_row(plan, Record.of(parts=ListOf(Record.of(name=Scalar()))))
    with pytest.raises(InputError, match="no field 'name'"):
        check_row(plan, Record.of(parts=ListOf(Record.of(title=Scalar()))))


@pytest.mark.parametrize("number", ["1" + "0" * 30, "1e30", "-1" + "0" * 400])
def test_numbers_that_no_limit_can_be_are_refused_with_their_place(number: str) -> None:
    for field in (f"max_tokens: {number}", f"temperature: {number}", f"seed: {number}"):
        with pytest.raises(FlowError, match="must be") as caught:
            plan_of("a: {llm: {engine: local, prompt: x, " + field + "}}")
        assert isinstance(caught.value.where, Location)
        assert caught.value.where.line == 4
    with pytest.raises(FlowError, match="must be"):
        plan_of("a: {llm: {engine: local, prompt: x}, timeout: " + number + "}")


def test_numbers_of_any_size_are_values() -> None:
    assert plan_of(more="constants: {n: 1" + "0" * 400 + "}\n").constants == {"n": 10**400}
