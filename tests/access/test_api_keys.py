"""Keys: shown once, hashed at rest, gone when they are revoked."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from sundog.access.api_keys import PREFIX, APIKeys, key_hash
from sundog.access.key_ring import MAX_REMEMBERED, KeyRing
from sundog.access.principal import KeyTerms, Principal
from sundog.errors import ConfigError
from sundog.ledger.ledger import SpendingLimits, SpendingScope
from sundog.ledger.request_limits import RequestLimits
from sundog.store.store import Store

NOW_S = 1_800_000_000.0


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[APIKeys]:
    store = Store(tmp_path)
    yield APIKeys(store)
    store.close()


def test_a_key_is_long_random_and_its_hash_is_all_that_is_kept(keys: APIKeys, tmp_path: Path) -> None:
    made = [keys.add(f"k{number}", "acme", KeyTerms())[0] for number in range(20)]
    assert len(set(made)) == 20
    for key in made:
        assert key.startswith(PREFIX)
        assert len(key) == len(PREFIX) + 43, "256 bits"
        assert key_hash(key) == sha256(key.encode()).digest()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert sum(key_hash(key) in kept for key in made) == 20
    assert not any(key.removeprefix(PREFIX)[5:].encode() in kept for key in made)


def test_a_key_finds_whose_it_is(keys: APIKeys) -> None:
    terms = KeyTerms(2.0, 5.0, 1000, 3, 60, ("gpt-*", "small"), ("triage",))
    key, record = keys.add("alice", "acme", terms)
    keys.limit_tenant("acme", SpendingLimits(max_usd=9.0))
    found = KeyRing(keys).principal(key, NOW_S)
    assert found == Principal(record.key_id, "acme", terms, SpendingLimits(max_usd=9.0))
    assert (found.weight, found.limits) == (2.0, SpendingLimits(5.0, 1000))
    assert found.terms.requests == RequestLimits(3, 60)
    assert found.scopes == (
        (SpendingScope("key", record.key_id), SpendingLimits(5.0, 1000)),
        (SpendingScope("tenant", "acme"), SpendingLimits(9.0)),
    )


@pytest.mark.parametrize(
    ("patterns", "name", "is_allowed"),
    [(("*",), "any", True), (("gpt-*",), "gpt-5", True), (("gpt-*",), "GPT-5", False), (("a", "b"), "b", True)],
)
def test_names_are_matched_with_patterns(patterns: tuple[str, ...], name: str, is_allowed: bool) -> None:
    assert Principal("k", "t", KeyTerms(models=patterns, flows=("none",))).allows_model(name) == is_allowed
    assert Principal("k", "t", KeyTerms(models=("none",), flows=patterns)).allows_flow(name) == is_allowed


@pytest.mark.parametrize("text", ["", "sk-sundog-", f"{PREFIX}{'x' * 43}", "sk-other", f"{PREFIX}\udcff", "x" * 10_000])
def test_other_text_is_no_key(keys: APIKeys, text: str) -> None:
    keys.add("alice", "acme", KeyTerms())
    assert KeyRing(keys).principal(text, NOW_S) is None


def test_a_revoked_key_ends_within_a_second_and_a_new_one_begins_at_once(keys: APIKeys) -> None:
    ring = KeyRing(keys)
    key, record = keys.add("alice", "acme", KeyTerms())
    assert ring.principal(key, NOW_S) is not None
    keys.revoke("alice")
    assert ring.principal(key, NOW_S + 0.9) is not None, "remembered"
    assert ring.principal(key, NOW_S + 1.0) is None
    again, other = keys.add("alice", "acme", KeyTerms())
    assert ring.principal(again, NOW_S + 1.0) == Principal(other.key_id, "acme", KeyTerms())
    assert other.key_id != record.key_id


def test_limits_that_change_are_seen(keys: APIKeys) -> None:
    ring = KeyRing(keys)
    key, _ = keys.add("alice", "acme", KeyTerms())
    assert ring.principal(key, NOW_S) is not None
    keys.limit_tenant("acme", SpendingLimits(max_tokens=5))
    found = ring.principal(key, NOW_S + 1.0)
    assert found is not None
    assert found.tenant_limits == SpendingLimits(max_tokens=5)


def test_a_key_ends_when_it_expires(keys: APIKeys) -> None:
    ring = KeyRing(keys)
    key, _ = keys.add("alice", "acme", KeyTerms(), expires_at=NOW_S + 0.5)
    assert ring.principal(key, NOW_S) is not None
    assert ring.principal(key, NOW_S + 0.5) is None, "also one that is remembered"


def test_what_is_remembered_is_bounded(keys: APIKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.access.key_ring.MAX_REMEMBERED", 3)
    assert MAX_REMEMBERED == 1024
    ring = KeyRing(keys)
    made = [keys.add(f"k{number}", "acme", KeyTerms())[0] for number in range(5)]
    for number in range(50):
        assert ring.principal(f"{PREFIX}{number:043}", NOW_S) is None
    assert len(ring) == 0, "those that were not found"
    for key in made:
        assert ring.principal(key, NOW_S) is not None
    assert len(ring) == 3


def test_wrong_keys_are_refused_with_what_to_do(keys: APIKeys) -> None:
    key, _ = keys.add("alice", "acme", KeyTerms())
    with pytest.raises(ConfigError, match="there is a key named 'alice'"):
        keys.add("alice", "other", KeyTerms())
    with pytest.raises(ConfigError, match="there is no valid key 'alise'") as unknown:
        keys.revoke("alise")
    assert unknown.value.hint == "did you mean 'alice'?"
    with pytest.raises(ConfigError) as pasted:
        keys.revoke(key)
    assert key.removeprefix(PREFIX)[5:] not in str(pasted.value)
    for name in ("", "two\nlines", "x" * 101):
        with pytest.raises(ConfigError, match="cannot be the name"):
            keys.add(name, "acme", KeyTerms())


@pytest.mark.parametrize(
    "terms",
    [{"weight": 0.0}, {"weight": float("nan")}, {"max_usd": -1.0}, {"max_at_once": 0}, {"max_per_minute": 0}],
)
def test_terms_under_which_nobody_could_ask_are_refused(terms: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        KeyTerms(**terms)  # type: ignore[arg-type]  # wrong on purpose
