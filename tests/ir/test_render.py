"""Rendering: the quick way for plain templates gives what Jinja gives, and errors are the row's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.errors import OperatorError
from sundog.ir.templates.environment import ENVIRONMENT, SKIPPED
from sundog.ir.templates.render import render_condition, render_text, render_value
from sundog.ir.templates.template import Template

NAMES = st.sampled_from(["a", "b", "items", "keys"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
SCOPES = st.dictionaries(NAMES, VALUES, max_size=3)
PATHS = st.lists(NAMES | st.sampled_from(["0", "1"]), min_size=1, max_size=3)


@given(scope=SCOPES, paths=st.lists(PATHS, max_size=3), text=st.text(alphabet="ab {%\n", max_size=4))
def test_plain_templates_are_rendered_as_jinja_does(scope: dict[str, Any], paths: list[list[str]], text: str) -> None:
    pieces = [path[0] + "".join(f"[{key}]" if key.isdigit() else f".{key}" for key in path[1:]) for path in paths]
    source = text.replace("{", "").replace("%", "") + " ".join(f"{{{{ {piece} }}}}" for piece in pieces if piece)
    try:
        expected: str | None = ENVIRONMENT.from_string(source).render(scope)
    except Exception:
        expected = None
    if expected is None:
        with pytest.raises(OperatorError):
            render_text(Template(source), scope)
    else:
        assert render_text(Template(source), scope) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ a.text }}", None),
        ("{{ a.text }}!", "!"),
        ("{{ a.text or 'none' }}", "none"),
        ("{{ a == none }}", True),
        ("{{ a is none }}", True),
        ("{{ a.b.c is none }}", True),
        ("{{ row.x + 1 }}", 3),
        ("{{ row.list }}", [1, 2]),
        ("{{ row.list[1] }}", 2),
        ("{{ row['x'] }}", 2),
        ("{{- row.x -}}", 2),
        ("x {{ row.x }}", "x 2"),
        ("{{ row.items }}", "a column called items"),
        ("{{ '}}' }}", "}}"),
    ],
)
def test_values(source: str, expected: object) -> None:
    scope = {"a": SKIPPED, "row": {"x": 2, "list": [1, 2], "items": "a column called items"}}
    assert render_value(Template(source), scope) == expected


def test_conditions_follow_the_template_language() -> None:
    scope = {"a": SKIPPED, "row": {"zero": 0, "text": "false"}}
    assert not render_condition(Template("{{ a }}"), scope)
    assert not render_condition(Template("{{ row.zero }}"), scope)
    assert render_condition(Template("{{ row.text }}"), scope)


@pytest.mark.parametrize(
    "source",
    [
        "{{ row.missing }}",
        "{{ row.null.deeper }}",
        "{{ row.x / 0 }}",
        "{{ row.x + 'text' }}",
        "{{ row.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ row.x.real.__add__(1) }}",
        "{{ range(10 ** 9) | list }}",
    ],
)
def test_what_a_template_may_not_do_is_an_error_of_the_row(source: str) -> None:
    with pytest.raises(OperatorError, match="template error"):
        render_value(Template(source), {"row": {"x": 1, "null": None}})


@pytest.mark.parametrize(
    ("values", "winner"),
    [
        (["a", "b", "b"], "b"),
        (["a", "b", "b", "a"], "a"),
        ([1, True, True, 1.0], True),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}, "x"], {"a": 1, "b": 2}),
        ([None, None, "x"], None),
        ([], None),
    ],
)
def test_a_vote_goes_to_the_most_frequent_value_of_equals_the_first(values: list[Any], winner: Any) -> None:
    assert render_value(Template("{{ values | vote }}"), {"values": values}) == winner
    answers = [{"kind": value} for value in values]
    assert render_value(Template("{{ answers | map(attribute='kind') | vote }}"), {"answers": answers}) == winner


def test_a_mean_is_of_numbers() -> None:
    mean = Template("{{ values | mean }}")
    assert [render_value(mean, {"values": values}) for values in ([1, 2], [0.1] * 10, [], SKIPPED)] == [
        1.5,
        0.1,
        None,
        None,
    ]
    for wrong in (["1"], [True], [None], "12", 3, [10**400]):
        with pytest.raises(OperatorError):
            render_value(mean, {"values": wrong})


def test_votes_are_bounded() -> None:
    with pytest.raises(OperatorError, match="more than 67,108,864 characters"):
        render_value(
            Template("{{ [text] * 100 | vote }}".replace("[text] * 100", "([text] * 100)")), {"text": "x" * 10**6}
        )
