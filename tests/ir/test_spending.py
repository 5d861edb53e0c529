"""The cost of a template has the same few limits whatever it is that multiplies. Null is empty text."""

from __future__ import annotations

from typing import Any

import pytest

from sundog.errors import OperatorError
from sundog.ir.templates.environment import SKIPPED
from sundog.ir.templates.render import render_text, render_value
from sundog.ir.templates.spending import MAX_CHARACTERS, MAX_STEPS
from sundog.ir.templates.template import Template

# So large that making it first, and refusing it then, would be told as a lack of memory.
HUGE = 10**15
SCOPE: dict[str, Any] = {
    "row": {
        "n": HUGE,
        "doc": "lorem " * 100_000,
        "big": list(range(1000)),
        "text": "abc",
        "null": None,
        "list": [1, None],
    },
    "skipped": SKIPPED,
}


@pytest.mark.parametrize(
    "source",
    [
        "{{ row.doc }}" * 120,
        "{{ '#' * row.n }}",
        "{{ row.n * '#' }}",
        "{{ 'a' | center(row.n) }}",
        "{{ 'a' | indent(row.n, true) }}",
        "{{ '%099999999d' | format(1) }}",
        "{{ '%*d' | format(row.n, 1) }}",
        "{{ '%.999999999f' % 1.5 }}",
        "{{ '%999999999s' % 'x' }}",
        "{{ '{:>999999999}'.format('x') }}",
        "{{ '{:>{}}'.format('x', row.n) }}",
        "{{ ('{0}' * 1000).format(row.doc) }}",
        "{{ '{a}{a}{a}'.format_map({'a': row.doc * 40}) }}",
        "{{ 'a'.ljust(row.n) }}",
        "{{ 'a'.zfill(row.n) }}",
        "{{ '\\t'.expandtabs(row.n) }}",
        "{{ row.doc.replace('', row.doc) }}",
        "{{ row.doc | replace('l', row.doc) }}",
        "{{ row.doc.join(row.doc) }}",
        "{{ row.text.translate({97: row.doc * 99, 98: row.doc * 99}) }}",
        "{{ ([row.doc] * 100000) | join }}",
        "{{ [row.doc] * 100000 }}",
        "x{{ [row.doc] * 100000 }}",
        "{{ ([row.doc] * 100000) | tojson }}",
        "{{ ([row.doc] * 100000) | string | length }}",
        "{{ 'x' ~ [row.doc] * 100000 }}",
        "{{ row.n.to_bytes(row.n, 'big') | length }}",
        "{{ range(99999) | map('center', 99999) | list | length }}",
        "{% for a in range(9999) %}{% for b in range(99) %}{{ row.doc }}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}" + "some text " * 100 + "{% endfor %}",
        "{% macro m() %}{% for a in range(99999) %}"
        + "some text " * 100
        + "{% endfor %}{% endmacro %}{{ m() | length }}",
        "{% set a = row.doc %}" + "{% set a = a ~ a %}" * 30 + "{{ a | length }}",
        "{% filter indent(999999999, true) %}x{% endfilter %}",
        "{% for x in row.big recursive %}{% if loop.depth < 9 %}{{ loop(row.big) }}{% endif %}{% endfor %}",
    ],
    ids=lambda source: source[:40],
)
def test_text_has_a_bound_whatever_makes_it_long(source: str) -> None:
    with pytest.raises(OperatorError, match=f"more than {MAX_CHARACTERS:,} characters"):
        render_value(Template(source), SCOPE)


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% if a in row.big %}{% endif %}{% endfor %}",
        "{% for a in range(99999) %}{% if row.doc == row.doc[:] %}{% endif %}{% endfor %}",
        "{% for a in range(99999) %}{% set y = row.doc[1:] %}{% endfor %}",
        "{% for a in range(99999) %}{{ row.big | sum }}{% endfor %}",
        "{% for a in range(99999) %}{{ row.doc.count('x') }}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}",
        "{{ ('<!--->' * 300000) | striptags }}",
        "{{ range(99999) | select('in', row.big) | list }}",
        "{{ (' ' * 1000000) | wordwrap(10) }}",
        "{{ 3 | round(row.n) }}",
        "{{ [1] | slice(row.n) | list }}",
        "{{ [1] | batch(row.n, 0) | list }}",
        "{{ [1] * row.n }}",
        "{{ (row.big * 999) + (row.big * 999) }}",
    ],
    ids=lambda source: source[:40],
)
def test_work_has_a_bound_whatever_repeats_it(source: str) -> None:
    with pytest.raises(OperatorError, match=f"more than {MAX_STEPS:,} steps"):
        render_value(Template(source), SCOPE)


@pytest.mark.parametrize(
    "source", ["{{ 10 ** 9999 }}", "{{ 9 ** 9 ** 9 }}{{ 7 ** row.n }}", "{{ row.n ** 300 * row.n ** 300 }}"]
)
def test_whole_numbers_have_a_bound(source: str) -> None:
    with pytest.raises(OperatorError, match="more than 4,300 digits"):
        render_value(Template(source), SCOPE)


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("{{ row.text | truncate(1) }}", "expected length >= 3, got 1"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "calls itself without end"),
        ("{{ range(row.n) | list }}", "Range too big"),
        ("{{ row.doc | filesizeformat }}", "could not convert"),
    ],
)
def test_whatever_a_template_raises_is_an_error_of_the_row(source: str, cause: str) -> None:
    with pytest.raises(OperatorError, match=cause) as caught:
        render_text(Template(source), SCOPE)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a{{ row.null }}b", "ab"),
        ("a{{ row.null or 'none' }}b", "anoneb"),
        ("{{ row.null ~ 'x' ~ skipped ~ 1 }}", "x1"),
        ("{{ row.null | upper }}!", "!"),
        ("{{ row.null | trim | length }}!", "0!"),
        ("{{ row.list | join(', ') }}!", "1, !"),
        ("{% if row.null is none %}null{% endif %}", "null"),
        ("{% set x = row.null %}[{{ x }}]", "[]"),
        ("{% for x in row.list %}[{{ x }}]{% endfor %}", "[1][]"),
        ("{{ row.null | default('d') }}{{ row.null | default('d', true) }}", "d"),
        ("{{ row.list | tojson }}!", "[1, null]!"),
        ("{{ skipped }}!", "!"),
    ],
)
def test_null_is_empty_text(source: str, text: str) -> None:
    assert render_text(Template(source), SCOPE) == text


def test_null_stays_null_as_a_value() -> None:
    assert render_value(Template("{{ row.null }}"), SCOPE) is None
    assert render_value(Template("{{ row.list[1] }}"), SCOPE) is None
    assert render_value(Template("{{ row.null == none }}"), SCOPE) is True


def test_what_real_templates_do_is_far_below_the_bounds() -> None:
    """A prompt of ten documents and a thousand elements, each formatted."""
    source = (
        "{% for n in row.big %}{{ '%03d' % n }}: {{ n * 2 }}, {{ (row.text ~ n) | upper }}\n{% endfor %}"
        + "{{ row.doc }}" * 10
    )
    text = render_text(Template(source), SCOPE)
    assert text.startswith("000: 0, ABC0\n001: 2, ABC1\n")
    assert len(text) > 6_000_000
