"""The terms on which a request is worked on: who is charged, how urgent it is, and until when.

Owns these facts, and how the core hears of them. Never decides by them; policies do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from sundog.execution.calls.call_key import CallIdentity, RunScope
from sundog.ir.row_ids import RowRef
from sundog.ledger.ledger import SpendingLimits, SpendingScope
from sundog.sched.facts import CallFacts, Tier


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of one request."""

    #: The one who is charged for it, "" where nobody told.
    tenant: str = ""
    #: The share of its tenant among those that wait.
    weight: float = 1.0
    #: Smaller is sooner, as in vLLM.
    priority: int = 0
    #: Seconds since the epoch after which nobody wants the answer, None for no end.
    deadline_at: float | None = None
    #: The class of service.
    tier: Tier = "default"
    #: The rows of the request may cost so much together.
    max_usd: float | None = None
    max_tokens: int | None = None
    #: The trace of its client, in the form of W3C, "" for none.
    traceparent: str = ""

    @property
    def limits(self) -> SpendingLimits:
        return SpendingLimits(self.max_usd, self.max_tokens)

    def is_over(self, now: float) -> bool:
        """Return whether nobody wants the answer any more at `now`, in seconds since the epoch."""
        return self.deadline_at is not None and self.deadline_at <= now

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> Self:
        """Return the terms that `to_dict` gave."""
        return cls(**written)


NO_TERMS = Terms()


@dataclass(frozen=True, slots=True)
class LiveScope(RunScope):
    """The scope of a live run. Its requests see the outside world anew, each once: reads are shared among the rows of
    one request."""

    #: By the number of a request, while its rows run; those without any have none here.
    terms: dict[int, Terms] = field(default_factory=dict)
    #: Gives those who pay for the calls of a request, by its number, as far as they have limits.
    payers_of: Callable[[int], tuple[SpendingScope, ...]] = lambda number: ()

    def facts_of(self, step: str, identity: CallIdentity) -> CallFacts:
        facts = RunScope.facts_of(self, step, identity)
        terms = self.terms.get(identity.row.row_id[0])
        if terms is None:
            return facts
        who = replace(facts, tenant=terms.tenant, weight=terms.weight)
        return replace(who, priority=terms.priority, tier=terms.tier)

    def paid_by(self, row: RowRef) -> tuple[SpendingScope, ...]:
        return self.payers_of(row.row_id[0])

    @property
    def pays_before_place(self) -> bool:
        return True

    def reads_id(self, row: RowRef) -> str:
        return f"{self.run_id}/{row.row_id[0]}"
