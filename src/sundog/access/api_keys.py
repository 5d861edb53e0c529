"""The API keys of a state folder.

Owns how a key is made, hashed and kept. A key is 256 random bits: nobody guesses it, nor finds it from its SHA-256, so
that a slow hash, which passwords need, would only make requests slow. Never shows a key twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from secrets import token_hex, token_urlsafe

from sundog.access.principal import KeyTerms, Principal
from sundog.errors import ConfigError, suggest
from sundog.ledger.charges import NO_CHARGE, Charge
from sundog.ledger.ledger import NO_LIMITS, SpendingLimits, SpendingScope
from sundog.store.spending import SpentBook
from sundog.store.statements import StoreStatement
from sundog.store.store import Store

PREFIX = "sk-sundog-"
NUM_BYTES = 32
NUM_SHOWN = 4
"""Characters that are shown of what is random, so that people can tell keys apart: 24 of 256 bits."""
MAX_NAME = 100
_COLUMNS = "key_id, shown, name, tenant, terms, created_at, expires_at, revoked_at"
_PUT_KEY = StoreStatement("put_key", "insert into api_keys values (?, ?, ?, ?, ?, ?, ?, ?, ?)")
_REVOKE_KEY = StoreStatement("revoke_key", "update api_keys set revoked_at = ? where key_id = ?")
_PUT_TENANT = StoreStatement("put_tenant", "insert or replace into tenants values (?, ?, ?)")
_PRINCIPAL = """
select key_id, api_keys.tenant, terms, expires_at, max_usd, max_tokens
    from api_keys left join tenants on tenants.tenant = api_keys.tenant
    where key_hash = ? and revoked_at is null
"""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as it is kept and listed: all but the key."""

    key_id: str
    #: Its first characters.
    shown: str
    name: str
    tenant: str
    terms: KeyTerms
    created_at: str
    #: Seconds since the epoch, None for no end.
    expires_at: float | None
    revoked_at: str | None


@dataclass(frozen=True, slots=True)
class FoundKey:
    """The one whose key it is, and when that ends."""

    principal: Principal
    expires_at: float | None


class APIKeys:
    """This class keeps the keys of one state folder."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._book = SpentBook(store)

    def add(self, name: str, tenant: str, terms: KeyTerms, expires_at: float | None = None) -> tuple[str, KeyRecord]:
        """Make a key; return it, which is never shown again, and its record. ConfigError where a key has the name."""
        for what, text in (("name", name), ("tenant", tenant)):
            if not text or len(text) > MAX_NAME or not text.isprintable():
                raise ConfigError(f"{text[:MAX_NAME]!r} cannot be the {what} of a key", hint="write one short line")
        if any(record.name == name for record in self.all() if record.revoked_at is None):
            hint = f"take another name, or first: sundog keys revoke {name}"
            raise ConfigError(f"there is a key named '{name}'", hint=hint)
        key = f"{PREFIX}{token_urlsafe(NUM_BYTES)}"
        shown = f"{key[: len(PREFIX) + NUM_SHOWN]}..."
        record = KeyRecord(f"key-{token_hex(4)}", shown, name, tenant, terms, _now(), expires_at, None)
        values = (record.key_id, shown, name, tenant, terms.to_json(), record.created_at, expires_at, None)
        self._store.change((_PUT_KEY, (key_hash(key), *values)))
        return key, record

    def all(self) -> list[KeyRecord]:
        """Return all keys, also those that have ended, in the order in which they were made."""
        found = self._store.select(f"select {_COLUMNS} from api_keys order by created_at, key_id", ())
        return [
            KeyRecord(key_id, shown, name, tenant, KeyTerms.of_json(terms), *times)
            for key_id, shown, name, tenant, terms, *times in found
        ]

    def revoke(self, name: str) -> KeyRecord:
        """End a key, known by its name or id; ConfigError where none that is valid has that."""
        valid = [record for record in self.all() if record.revoked_at is None]
        found = next((record for record in valid if name in (record.name, record.key_id)), None)
        if found is None:
            # Whoever writes the key itself must not find it in an error message.
            shown = "that" if PREFIX in name else f"'{name}'"
            raise ConfigError(f"there is no valid key {shown}", hint=suggest(name, [one.name for one in valid]))
        self._store.change((_REVOKE_KEY, (_now(), found.key_id)))
        return found

    def limit_tenant(self, tenant: str, limits: SpendingLimits) -> None:
        """Set what all keys of a tenant may spend together."""
        self._store.change((_PUT_TENANT, (tenant, limits.max_usd, limits.max_tokens)))

    def tenant_limits(self) -> dict[str, SpendingLimits]:
        """Return the limits of all tenants that have any."""
        found = self._store.select("select tenant, max_usd, max_tokens from tenants order by tenant", ())
        return {tenant: SpendingLimits(max_usd, max_tokens) for tenant, max_usd, max_tokens in found}

    def limits_of(self, key_id: str, tenant: str) -> tuple[tuple[SpendingScope, SpendingLimits], ...]:
        """Return what may be spent with a key, known by its id, and by its tenant, also where it was revoked."""
        found = self._store.select("select terms from api_keys where key_id = ?", (key_id,))
        terms = KeyTerms.of_json(found[0][0]) if found else KeyTerms()
        return Principal(key_id, tenant, terms, self.tenant_limits().get(tenant, NO_LIMITS)).scopes

    def spent(self, scope: SpendingScope) -> Charge:
        """Return what a key or a tenant has spent, with what is held for calls that run."""
        found = self._book.written(scope)
        return NO_CHARGE if found is None else found.spent + found.reserved

    def principal(self, key_id: str, now: float) -> Principal | None:
        """Return whose key has this id; None where it was revoked or has expired at `now`, in seconds since the
        epoch."""
        found = self._store.select("select key_hash from api_keys where key_id = ?", (key_id,))
        key = self.find(found[0][0]) if found else None
        if key is None or (key.expires_at is not None and now >= key.expires_at):
            return None
        return key.principal

    def find(self, hashed: bytes) -> FoundKey | None:
        """Return whose key has this hash; None where no key has it, or it was revoked."""
        found = self._store.select(_PRINCIPAL, (hashed,))
        if not found:
            return None
        key_id, tenant, terms, expires_at, max_usd, max_tokens = found[0]
        limits = SpendingLimits(max_usd, max_tokens)
        return FoundKey(Principal(key_id, tenant, KeyTerms.of_json(terms), limits), expires_at)

    def is_any(self) -> bool:
        """Return whether a key was ever made here: a server that has keys lets nobody in without one."""
        return bool(self._store.select("select 1 from api_keys limit 1", ()))


def key_hash(key: str) -> bytes:
    """Return what is kept of a key."""
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
