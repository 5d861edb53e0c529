"""Equal meaning, equal bytes."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sundog.errors import Location
from sundog.ir.logical import Filter
from sundog.ir.templates.template import Template
from sundog.ir.values.canonical import canonical_json, describe_value, fingerprint

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=40)
@given(st.dictionaries(st.text(), JSON))
def test_the_order_of_keys_does_not_count(value: dict[str, Any]) -> None:
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


@settings(max_examples=40)
@given(JSON, JSON)
def test_fingerprints_are_equal_exactly_when_the_json_is(first: Any, second: Any) -> None:
    assert (fingerprint(first) == fingerprint(second)) == (canonical_json(first) == canonical_json(second))


def test_bytes_are_stable() -> None:
    assert (
        canonical_json({"b": [1, 2.5, None, True], "a": "é\ud800"})
        == b'{"a":"\xc3\xa9\xed\xa0\x80","b":[1,2.5,null,true]}'
    )
    assert fingerprint({"a": 1}).hex() == "2c6b113b8dd15ffbded9860b43eb0c6c"


def test_a_description_leaves_out_where_things_were_written() -> None:
    first = Filter("keep", Template("{{ a }}"), location=Location("f.yaml", 1, 1))
    second = Filter("keep", Template("{{ a }}"), location=Location("g.yaml", 2, 2))
    assert describe_value(first) == describe_value(second) != describe_value(Filter("keep", Template("{{ b }}")))
