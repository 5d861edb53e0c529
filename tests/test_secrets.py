"""Secrets: revealed at the call, and nowhere else."""

from __future__ import annotations

import base64
import html
import json
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markupsafe import escape as escape_markup

from sundog.errors import ConfigError
from sundog.secrets import Secrets, has_secret

VALUE = "s3cr3t/val+ue"


def test_revealing_replaces_names_and_nothing_else() -> None:
    secrets = Secrets({"TOKEN": VALUE})
    assert secrets.reveal("Bearer ${env:TOKEN}, ${TOKEN}, $TOKEN") == f"Bearer {VALUE}, ${{TOKEN}}, $TOKEN"
    assert secrets.reveal_all({"a": ["${env:TOKEN}", 1], "b": None}) == {"a": [VALUE, 1], "b": None}
    assert has_secret("x${env:TOKEN}")
    assert not has_secret("${TOKEN}")


def test_what_was_revealed_is_redacted_everywhere() -> None:
    secrets = Secrets({"TOKEN": VALUE, "OTHER": "other-value"})
    assert secrets.redact(VALUE) == VALUE
    secrets.reveal("${env:TOKEN}")
    assert secrets.redact(f"failed with {VALUE}!") == "failed with ${env:TOKEN}!"
    assert secrets.redact_all({VALUE: [f"<{VALUE}>", 3]}) == {"${env:TOKEN}": ["<${env:TOKEN}>", 3]}
    assert secrets.redact("other-value") == "other-value"


def test_an_unset_secret_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="TOKEN is not set") as caught:
        Secrets({}).reveal("${env:TOKEN}")
    assert caught.value.hint is not None
    assert "export TOKEN" in caught.value.hint


def test_a_value_too_short_to_redact_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError, match="too short") as caught:
        Secrets({"TOKEN": "abc"}).reveal("${env:TOKEN}")
    assert "abc" not in str(caught.value)


def in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def in_lower_case(text: str) -> str:
    """Percent-escapes as servers and proxies normalise them."""
    return "%".join(part[:2].lower() + part[2:] if i else part for i, part in enumerate(text.split("%")))


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "repr": lambda text: repr(text)[1:-1],
    "quote": quote,
    "quote, all": lambda text: quote(text, safe=""),
    "quote, as requests": lambda text: quote(text, safe="!#$%&'()*+,/:;=?@[]~"),
    "quote, as httpx and yarl in a path": lambda text: quote(text, safe="!$&'()*+,;=:@/"),
    "quote, as aiohttp in a query": lambda text: quote(text, safe="!$'()*,;:@/?").replace("%20", "+"),
    "quote_plus": quote_plus,
    "quote in lower case": lambda text: in_lower_case(quote(text, safe="")),
    "quote twice": lambda text: quote(quote(text, safe=""), safe=""),
    "JSON": in_json,
    "JSON as it is": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON of PHP": lambda text: in_json(text).replace("/", "\\/"),
    "JSON of Java": lambda text: "".join(f"\\u{ord(c):04X}" if c in "=<>&'" else in_json(c) for c in text),
    "JSON in JSON": lambda text: in_json(in_json(text)),
    "JSON in a URL": lambda text: quote(in_json(text), safe=""),
    "JSON in HTML": lambda text: html.escape(in_json(text)),
    "HTML": html.escape,
    "HTML without quotes": lambda text: html.escape(text, quote=False),
    "HTML twice": lambda text: html.escape(html.escape(text)),
    "HTML, numbers": lambda text: "".join(c if c.isascii() and c.isalnum() else f"&#{ord(c)};" for c in text),
    "HTML, hexadecimal": lambda text: "".join(c if c.isascii() and c.isalnum() else f"&#x{ord(c):X};" for c in text),
    "markup": lambda text: str(escape_markup(text)),
    "XML": escape,
    "XML attribute": lambda text: quoteattr(text)[1:-1],
}


SPECIAL = st.sampled_from("/+ &<>\"'%=\\\n.;:?#")


@given(
    st.text(st.characters(exclude_categories=["Cs"]) | SPECIAL, min_size=6, max_size=24),
    st.sampled_from(sorted(SPELLINGS)),
)
@example("SENTurl/path+x y", "quote, as httpx and yarl in a path")
@example("SENTkey/abc+def==9", "JSON of PHP")
@example("SENTdb?pw&xyz/1", "HTML")
@example("\\\\u005c\n\\", "JSON in JSON")
@example("smile \U0001f600/", "JSON")
def test_every_spelling_that_a_library_writes_is_redacted(value: str, spelling: str) -> None:
    secrets = Secrets({"TOKEN": value})
    secrets.reveal("${env:TOKEN}")
    assert secrets.redact(f"<{SPELLINGS[spelling](value)}>") == "<${env:TOKEN}>"


@given(st.text(min_size=6, max_size=24), st.text(max_size=8), st.text(max_size=8))
def test_basic_authentication_is_redacted(value: str, user: str, after: str) -> None:
    secrets = Secrets({"TOKEN": value})
    secrets.reveal("${env:TOKEN}")
    header = base64.b64encode(f"{user}:{value}{after}".encode("utf-8", "replace")).decode()
    assert min(value) >= "\ud800" or "${env:TOKEN}" in secrets.redact(header)


def test_other_texts_stay_as_they_are_and_cost_a_search() -> None:
    values = ["SENTkey/abc+def==9", "x" * 40, "a.b.c.d/e/f", "\\" * 12, "%" * 12, "&" * 12]
    secrets = Secrets({f"T{i}": value for i, value in enumerate(values)})
    for i in range(len(values)):
        secrets.reveal(f"${{env:T{i}}}")
    texts = ["x" * 39, "SENTkey/abc", "SENTkey abc+def==9"]
    assert [secrets.redact(text) for text in texts] == texts
    begin = time.process_time()
    for long in ("\\" * 20_000 + "!", "%25" * 20_000 + "!", "&amp;" * 9_000, "x" * 39 + "SENTkey" * 9_000):
        secrets.redact(long)
    assert time.process_time() - begin < 2, "a search takes time in proportion to the text"
