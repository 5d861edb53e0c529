"""This module tells whose key it is, with each request.

Owns what is remembered of keys, and how long. Never shows or keeps a key.
"""

from __future__ import annotations

from sundog.access.api_keys import PREFIX, APIKeys, FoundKey, key_hash
from sundog.access.principal import Principal

REMEMBERED_S = 1.0
"""A key that was revoked ends so much later, at most. A new one is valid at once."""
MAX_REMEMBERED = 1024
MAX_KEY_CHARACTERS = 200


class KeyRing:
    """This class finds the one whose key came with a request. It remembers at most MAX_REMEMBERED keys that were found,
    and none that was not: whoever tries keys takes no memory."""

    def __init__(self, keys: APIKeys) -> None:
        self._keys = keys
        #: By hash, those found, with when.
        self._found: dict[bytes, tuple[FoundKey, float]] = {}

    def principal(self, key: str, now_s: float) -> Principal | None:
        """Return whose valid key it is; None for all other text. `now_s`: seconds since the epoch."""
        if not key.startswith(PREFIX) or len(key) > MAX_KEY_CHARACTERS:
            return None
        hashed = key_hash(key)
        found, since_s = self._found.get(hashed) or (None, 0.0)
        if found is None or not 0 <= now_s - since_s < REMEMBERED_S:
            found = self._keys.find(hashed)
            self._remember(hashed, found, now_s)
        if found is None or (found.expires_at is not None and now_s >= found.expires_at):
            return None
        return found.principal

    def __len__(self) -> int:
        return len(self._found)

    def _remember(self, hashed: bytes, found: FoundKey | None, now_s: float) -> None:
        self._found.pop(hashed, None)
        if found is None:
            return
        self._found[hashed] = found, now_s
        if len(self._found) > MAX_REMEMBERED:
            del self._found[next(iter(self._found))]
