"""Secrets: revealed at the call, and nowhere else."""

from __future__ import annotations

import pytest

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
