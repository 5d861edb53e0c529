"""Templates as data: segments, paths, and what cannot be a template."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from sundog.errors import FlowError, OperatorError
from sundog.ir.templates.environment import SKIPPED
from sundog.ir.templates.render import render_condition, render_text, render_value
from sundog.ir.templates.template import Computed, Literal, Reference, Template

SCOPE = {
    "row": {"a": 1, "text": "x", "items": [1, 2], "none": None, "b c": {"d": 2}},
    "rows": [{"body": "first"}],
    "skipped": SKIPPED,
}


def test_segments_keep_literal_text_references_and_the_rest_apart() -> None:
    template = Template("A {{ row.a }} B {{ rows[0]['body'] }}{% if row.b %}{{ c.d }}{% endif %}\n")
    assert template.segments == (
        Literal("A "),
        Reference(("row", "a")),
        Literal(" B "),
        Reference(("rows", "0", "body")),
        Computed(frozenset({("row", "b"), ("c", "d")})),
        Literal("\n"),
    )


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("plain", set()),
        ("{{ row.a | upper }}", {("row", "a")}),
        ("{{ row[key] }}", {("row",), ("key",)}),
        ("{% for x in row.items %}{{ x.y }}{{ row.z }}{% endfor %}", {("row", "items"), ("row", "z")}),
        ("{% set x = row.a %}{{ x.b }}", {("row", "a")}),
        ("{{ a.b if c else d[0] }}", {("a", "b"), ("c",), ("d", "0")}),
        ("{# row.a #}{{ range(row.n) }}", {("row", "n")}),
    ],
)
def test_paths_are_what_is_read_from_outside(source: str, paths: set[tuple[str, ...]]) -> None:
    assert Template(source).paths == paths


def test_names_are_the_outermost() -> None:
    assert Template("{{ a.b }}{{ c[0] }}").names == {"a", "c"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [("{{ a }}", True), ("{{ a.b | c }}".replace("c", "upper"), True), (" {{ a }}", False), ("x", False), ("", False)],
)
def test_one_expression_alone_is_an_expression(source: str, expected: bool) -> None:
    assert Template(source).is_expression is expected


def test_templates_are_equal_by_source() -> None:
    assert Template("{{ a }}") == Template("{{ a }}") != Template("{{ a  }}")
    assert len({Template("a"), Template("a")}) == 1


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("a\n{{ b", "line 2 of the template: unexpected end"),
        ("{% if a %}", "line 1"),
        ("{{ a | nothing }}", "no filter 'nothing'"),
        ("{{ a is nothing }}", "no test 'nothing'"),
        ("{{ [1, 2] | random }}", "no filter 'random'"),
        ("{% include 'secrets.txt' %}", "cannot read files"),
        ("{% from 'a' import b %}", "cannot read files"),
        ("{% extends 'a' %}", "cannot read files"),
    ],
)
def test_what_could_never_render_is_refused(source: str, complaint: str) -> None:
    with pytest.raises(FlowError, match=complaint):
        Template(source)


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    template: Template


def test_models_read_templates_from_text() -> None:
    held = Holder.model_validate({"template": "{{ a }}"})
    assert held.template == Template("{{ a }}")
    assert held.model_dump() == {"template": "{{ a }}"}
    assert Holder(template=Template("b")).template == Template("b")
    for wrong in (3, "{{"):
        with pytest.raises(ValidationError, match="template"):
            Holder.model_validate({"template": wrong})


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ row.a }}", 1),
        ("{{ row.items }}", [1, 2]),
        ("{{ row['b c'].d }}", 2),
        ("{{ row.none }}", None),
        ("{{ rows[0].body }}", "first"),
        ("{{ row.a }} ", "1 "),
        ("{{ row.a > 0 and row.text == 'x' }}", True),
        ("{{ skipped }}", None),
        ("{{ skipped.a.b }}", None),
        ("{{ skipped is none }}", True),
        ("{{ skipped == none }}", True),
        ("[{{ skipped.text }}]", "[]"),
        ("{{- row.a -}}", 1),
        ("a\n", "a\n"),
    ],
)
def test_values(source: str, value: object) -> None:
    assert render_value(Template(source), SCOPE) == value


@pytest.mark.parametrize(
    "source",
    [
        "{{ row.missing }}",
        "{{ missing }}",
        "{{ row.text.missing.deeper }}",
        "{{ row.a / 0 }}",
        "{{ row.a + row.text }}",
        "{{ row.text.__class__ }}",
        "{{ row.items.append(3) }}",
        "{{ row.a.b.c }}",
        "{{ range(10 ** 9) }}",
    ],
)
def test_what_cannot_render_is_the_rows_error(source: str) -> None:
    for render in (render_text, render_value, render_condition):
        with pytest.raises(OperatorError, match="template error") as caught:
            render(Template(source), SCOPE)
        assert caught.value.hint is not None
        assert source in caught.value.hint
    assert SCOPE["row"]["items"] == [1, 2]  # type: ignore[index]  # the scope is of many types


@pytest.mark.parametrize(("source", "truth"), [("{{ row.a }}", True), ("{{ row.none }}", False), ("", False)])
def test_conditions(source: str, truth: bool) -> None:
    assert render_condition(Template(source), SCOPE) is truth


PLAIN = st.text(st.characters(exclude_characters="{%#}", exclude_categories=["Cs", "Cc"]))
NAMES = st.from_regex(r"[a-z]{1,8}_x", fullmatch=True)


@given(st.lists(st.tuples(PLAIN, NAMES, st.text(max_size=9)), max_size=5), PLAIN)
def test_what_is_read_is_what_is_rendered(parts: list[tuple[str, str, str]], end: str) -> None:
    """Text stays, references are replaced, and nothing but the named paths is needed."""
    values = {name: value for _, name, value in parts}
    template = Template("".join(f"{text}{{{{ row.{name} }}}}" for text, name, _ in parts) + end)
    assert template.paths == {("row", name) for name in values}
    expected = "".join(f"{text}{values[name]}" for text, name, _ in parts) + end
    assert render_text(template, {"row": values}) == expected
    rebuilt = "".join(
        segment.text if isinstance(segment, Literal) else values[segment.path[1]]
        for segment in template.segments
        if isinstance(segment, Literal | Reference)
    )
    assert rebuilt == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 400 + "1" + ")" * 400 + " }}",
        "{{ 1" + "+1" * 3000 + " }}",
        "{{ row" + ".a" * 200 + " }}",
        "{{ " + "not " * 600 + "1 }}",
        "{{ x" + "|upper" * 120 + " }}",
        "{% for x in row %}" * 30 + "{% endfor %}" * 30,
        "{% if 1 %}" * 120 + "{% endif %}" * 120,
    ],
    ids=lambda source: source[:12],
)
def test_what_is_nested_too_deeply_is_told_when_the_flow_is_read(source: str) -> None:
    with pytest.raises(FlowError, match="nested deeper than 100 levels"):
        Template(source)


def test_long_templates_and_long_sums_are_read() -> None:
    assert render_text(Template("{{ 0" + "+1" * 90 + " }}"), {}) == "90"
    assert render_text(Template("{{ a" + " ~ a" * 2000 + " }}"), {"a": "x"}) == "x" * 2001
    assert render_text(Template("{{ a }}" * 2000), {"a": 1}) == "1" * 2000


@pytest.mark.parametrize(
    "source", ["{{ 1e999 }}", "{{ -1e999 }}", "{{ [1e999] }}", "{% if row.a > 1e999 %}{% endif %}"]
)
def test_a_number_that_json_does_not_have_is_told_when_the_flow_is_read(source: str) -> None:
    with pytest.raises(FlowError, match="no JSON number"):
        Template(source)


def test_a_number_of_more_digits_than_python_reads_is_told() -> None:
    with pytest.raises(FlowError, match="4300 digits"):
        Template("{{ " + "9" * 5000 + " }}")


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("{% for x in row.items %}{{ loop.turn }}{% endfor %}", "loop.turn"),
        ("{% for x in row.items %}{% if loop.last.draft.text %}a{% endif %}{% endfor %}", "loop.last.draft"),
        ("{% for x in row.items %}{% for y in x %}{{ loop.turn + 1 }}{% endfor %}{% endfor %}", "loop.turn"),
    ],
)
def test_the_loop_of_a_flow_is_not_that_of_for(source: str, path: str) -> None:
    with pytest.raises(FlowError, match=r"inside \{% for %\} 'loop' is the loop of the template") as caught:
        Template(source)
    assert f"{{% set kept = {path} %}}" in str(caught.value)


def test_both_loops_may_be_used_where_they_are_meant() -> None:
    for_each = "{% for x in loop.last.parts %}{{ t }}{{ loop.index }}{{ loop.last }} {% endfor %}"
    source = "{% set t = loop.turn %}" + for_each + "{{ loop.turn }}"
    assert render_text(Template(source), {"loop": {"turn": 2, "last": {"parts": "ab"}}}) == "21False 22True 2"
