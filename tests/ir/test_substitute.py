"""Templates with other names and values in them."""

from __future__ import annotations

from typing import Any

import pytest

from sundog.ir.templates.render import render_value
from sundog.ir.templates.substitute import rename, with_literals, with_values
from sundog.ir.templates.template import Template

RENAMED = {
    "{{ a.a }} a {{ b['a'] | d(a) }}": "{{ new.a }} a {{ b['a'] | d(new) }}",
    "{% if a is none %}{{ x(a=a) }}{% endif %}": None,
    "{% if a is none %}{{ 'a' ~ a }}{% endif %}": "{% if new is none %}{{ 'a' ~ new }}{% endif %}",
    "{# a #}{{ a }}": "{# a #}{{ new }}",
    "{{ b }}": "{{ b }}",
    "{% for a in b %}{{ a }}{% endfor %}": "{% for a in b %}{{ a }}{% endfor %}",
    "{{ a }}{% for a in b %}{{ a }}{% endfor %}": None,
    "{{ a }}{% for new in b %}{{ new }}{% endfor %}": None,
    "x {%- if a %}{% endif %}": None,
    "{{ a }}\r\n": None,
}


@pytest.mark.parametrize("source", RENAMED)
def test_a_name_is_replaced_where_it_is_that_name_or_not_at_all(source: str) -> None:
    found = rename(Template(source), {"a": "new"})
    assert (found and found.source) == RENAMED[source]


VALUES: dict[str, Any] = {
    "text": 'it\'s "so"\n',
    "number": 3,
    "minus": -1,
    "part": 1.5,
    "on": True,
    "nothing": None,
    "list": [1],
    "path": "a\\b",
    "empty": "",
    "tag": "{{ x }}",
}
EXPRESSIONS = {
    "{{ number + row }}": "{{ 3 + row }}",
    "{{ on and row }}": "{{ true and row }}",
    "{{ row == nothing }}": "{{ row == none }}",
    "{{ list + row }}": "{{ list + row }}",
    "{{ part * row }}": "{{ 1.5 * row }}",
    "{{ minus + row }}": None,
}


@pytest.mark.parametrize("source", EXPRESSIONS)
def test_values_are_written_into_expressions(source: str) -> None:
    found = with_values(Template(source), VALUES)
    assert (found and found.source) == EXPRESSIONS[source]


@pytest.mark.parametrize("name", ["text", "path", "tag", "empty"])
def test_text_in_an_expression_is_the_same_text(name: str) -> None:
    template = Template(f"{{{{ [{name}, row] }}}}")
    found = with_values(template, VALUES)
    assert found is not None
    assert found.names == {"row"}
    assert render_value(found, {"row": 1}) == render_value(template, {**VALUES, "row": 1})


LITERALS = {
    "{{ row }} {{ number }}{{ text }}.": '{{ row }} 3it\'s "so"\n.',
    "{{number}}{{ list }}{{ list[0] }}": "3[1]{{ list[0] }}",
    "{{ number }}": "{{ number }}",
    "{{ empty }}{{ row }}": None,
    "a {{- number }}": None,
    "{{ number }} {%- if row %}{% endif %}": None,
    "{{ number }}\r\n": None,
}


@pytest.mark.parametrize("source", LITERALS)
def test_values_become_text_in_text(source: str) -> None:
    plain = {name: value for name, value in VALUES.items() if name != "tag"}
    found = with_literals(Template(source), plain)
    assert (found and found.source) == LITERALS[source]


def test_text_that_would_be_a_template_stays_a_value() -> None:
    assert with_literals(Template("x {{ tag }}"), {"tag": "{{ x }}"}) is None
    assert with_literals(Template("{{ brace }}{ {{ row }}"), {"brace": "{"}) is None
