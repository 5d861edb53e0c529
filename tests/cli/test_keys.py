"""`sundog keys`: made, listed, revoked and limited; a key is shown once."""

from __future__ import annotations

import json
from pathlib import Path

from sundog.access.api_keys import PREFIX, APIKeys
from sundog.access.key_ring import KeyRing
from sundog.ledger.charges import Charge
from sundog.ledger.ledger import SpendingScope
from sundog.store.store import Store
from tests.cli.flows import sundog
from tests.cli.test_completion import offered


def test_a_key_is_made_listed_and_revoked(tmp_path: Path) -> None:
    made = sundog(tmp_path, "keys", "add", "alice", "--tenant", "research", "--max-usd", "20", "--model", "gpt-*")
    assert made.exit_code == 0, made.stderr
    key = made.stdout.strip()
    assert key.startswith(PREFIX)
    assert key not in made.stderr
    store = Store(tmp_path / ".sundog")
    found = KeyRing(APIKeys(store)).principal(key, 0.0)
    store.close()
    assert found is not None
    assert (found.tenant, found.limits.max_usd, found.allows_model("claude")) == ("research", 20.0, False)
    listed = sundog(tmp_path, "keys", "list")
    assert key not in listed.stdout
    assert key[:14] in listed.stdout
    assert listed.stdout.splitlines()[1].split() == [
        "alice", f"{key[:14]}...", "research", "valid", "0.00", "20.00", "0", "-", "gpt-*,", "flow", "*",
    ]  # fmt: skip
    ended = sundog(tmp_path, "keys", "revoke", "alice")
    assert "of 'alice' is revoked" in ended.stdout
    assert "revoked" in sundog(tmp_path, "keys", "list").stdout
    again = sundog(tmp_path, "keys", "revoke", "alice")
    assert again.exit_code == 2
    assert "there is no valid key 'alice'" in again.stderr


def test_json_for_machines_tells_the_key_once(tmp_path: Path) -> None:
    made = json.loads(sundog(tmp_path, "keys", "add", "ci", "--expires", "30d", "--json").stdout)
    assert made["key"].startswith(made["shown"][:14])
    assert made["tenant"] == "ci"
    assert made["expires_at"] is not None
    (listed,) = json.loads(sundog(tmp_path, "keys", "list", "--json").stdout)["keys"]
    assert listed == {
        **{name: value for name, value in made.items() if name != "key"},
        "spent_usd": 0.0,
        "spent_tokens": 0,
    }


def test_a_tenant_is_limited_and_what_was_spent_is_told(tmp_path: Path) -> None:
    sundog(tmp_path, "keys", "add", "alice", "--tenant", "research")
    said = sundog(tmp_path, "keys", "limit", "research", "--max-usd", "2.5")
    assert said.stdout == "the tenant 'research' may spend 2.50 dollars and any tokens\n"
    store = Store(tmp_path / ".sundog")
    store.connection.execute("insert into spent values ('tenant:research', 1500000000, 10, 0, 5)")
    assert APIKeys(store).spent(SpendingScope("tenant", "research")) == Charge(1_500_000_000, 15)
    store.close()
    *_, line = sundog(tmp_path, "keys", "list").stdout.splitlines()
    assert line.split() == ["-", "-", "research", "-", "1.50", "2.50", "15", "-", "-"]
    sundog(tmp_path, "keys", "limit", "research")
    assert json.loads(sundog(tmp_path, "keys", "list", "--json").stdout)["tenants"][0]["max_usd"] is None


def test_wrong_words_are_refused(tmp_path: Path) -> None:
    sundog(tmp_path, "keys", "add", "alice")
    for words in (["alice"], ["bob", "--expires", "soon"], ["bob", "--max-usd", "nan"], ["bob", "--weight", "0"]):
        refused = sundog(tmp_path, "keys", "add", *words)
        assert refused.exit_code == 2, words
        assert PREFIX not in refused.stdout + refused.stderr


def test_without_keys_the_list_says_so(tmp_path: Path) -> None:
    assert sundog(tmp_path, "keys", "list").stdout.startswith("no keys in ")


def test_names_are_completed(tmp_path: Path) -> None:
    assert offered(tmp_path, "sundog keys revoke a") == []
    assert not (tmp_path / ".sundog").exists()
    sundog(tmp_path, "keys", "add", "alice", "--tenant", "research")
    sundog(tmp_path, "keys", "add", "adam", "--tenant", "sales")
    sundog(tmp_path, "keys", "revoke", "adam")
    assert offered(tmp_path, "sundog keys revoke a") == ["alice"]
    assert offered(tmp_path, "sundog keys limit r") == ["research"]
    assert offered(tmp_path, "sundog keys add bob --tenant s") == ["sales"]
