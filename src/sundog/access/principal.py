"""The one who asks: known by a key, with what that key allows.

Owns what a name of a model or a flow is matched with. Never looks a key up.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Self

from sundog.errors import ConfigError
from sundog.ledger.ledger import NO_LIMITS, SpendingLimits, SpendingScope
from sundog.ledger.request_limits import RequestLimits

EVERYTHING = ("*",)


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """The terms of a key, as it was made with them."""

    #: The share of its tenant among those that wait, beside the others.
    weight: float = 1.0
    max_usd: float | None = None
    max_tokens: int | None = None
    max_at_once: int | None = None
    max_per_minute: int | None = None
    #: Patterns of names, as `gpt-*`.
    models: tuple[str, ...] = EVERYTHING
    flows: tuple[str, ...] = EVERYTHING

    def __post_init__(self) -> None:
        """Refuse terms under which nobody could ask; ConfigError."""
        _ = self.limits
        if not 0 < self.weight <= 1000:
            raise ConfigError(f"the weight of a key cannot be {self.weight}", hint="write a number up to 1000, as 2")
        for name in ("max_at_once", "max_per_minute"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ConfigError(f"{name} of a key cannot be {number}", hint="write at least 1, or leave it out")

    @property
    def limits(self) -> SpendingLimits:
        return SpendingLimits(self.max_usd, self.max_tokens)

    @property
    def requests(self) -> RequestLimits:
        return RequestLimits(self.max_at_once, self.max_per_minute)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> Self:
        """Return the terms that `to_json` wrote."""
        data: dict[str, Any] = json.loads(text)
        return cls(**{**data, "models": tuple(data["models"]), "flows": tuple(data["flows"])})


NO_TERMS_OF_KEY = KeyTerms()


@dataclass(frozen=True, slots=True)
class Principal:
    """The one whose key came with a request.

    >>> one = Principal("key-1", "acme", KeyTerms(models=("gpt-*",)))
    >>> one.allows_model("gpt-5"), one.allows_model("claude"), one.allows_flow("triage")
    (True, False, True)
    """

    key_id: str
    tenant: str
    terms: KeyTerms = NO_TERMS_OF_KEY
    #: The limits of all keys of its tenant together.
    tenant_limits: SpendingLimits = NO_LIMITS

    @property
    def weight(self) -> float:
        return self.terms.weight

    @property
    def limits(self) -> SpendingLimits:
        """Return what may be spent with this key."""
        return self.terms.limits

    @property
    def scopes(self) -> tuple[tuple[SpendingScope, SpendingLimits], ...]:
        """Return who pays for its calls, with the limits of each."""
        key, tenant = SpendingScope("key", self.key_id), SpendingScope("tenant", self.tenant)
        return (key, self.limits), (tenant, self.tenant_limits)

    def allows_model(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.terms.models)

    def allows_flow(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.terms.flows)
