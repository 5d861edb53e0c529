"""The identity of a call within a run, and the key by which its result is kept and found.

Owns what runs and rows may have in common. Never looks anything up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from sundog.ir.physical import CallExec, Sharing
from sundog.ir.row_ids import RowRef
from sundog.ir.values.canonical import canonical_json
from sundog.ledger.ledger import SpendingScope
from sundog.operators.base import BoundCall
from sundog.sched.facts import NO_FACTS, CallFacts

_TURNS = re.compile(r"\.(\d+)/")


@dataclass(slots=True)
class CallIdentity:
    """The identity of a call in the run."""

    row: RowRef
    #: Step, element and turn, unique inside the row.
    path: str
    depth: int
    #: The number of rows that this process took up before this one.
    position: int = 0
    #: Facts of this call alone, None where those of its step hold.
    facts: CallFacts | None = None

    @property
    def turn(self) -> int:
        """The calls of its row before it, as far as its place tells: steps before it, and turns of loops and
        conversations around it."""
        return self.depth + sum(int(number) - 1 for number in _TURNS.findall(self.path))

    @property
    def order(self) -> int:
        """The place of the row's work among that of others: rows that were made of an earlier row come first."""
        return self.row.row_id[0]

    @property
    def request_id(self) -> str:
        """The name of the call's request, unique inside the run."""
        return f"{self.row}/{self.path}"


@dataclass(frozen=True, slots=True)
class RunScope:
    """The facts of a run that its calls depend on."""

    run_id: str
    #: It has no result in common with another run.
    is_fresh: bool
    #: Effects whose claim has no outcome run again.
    repeats_unknown_effects: bool
    #: By step of its flow, for policies and engines.
    facts: Mapping[str, CallFacts] = field(default_factory=dict)
    #: The accounts of limits that its calls are paid from, none without limits.
    payers: tuple[SpendingScope, ...] = ()

    def facts_of(self, step: str, identity: CallIdentity) -> CallFacts:
        """Return what is known of a call of a step."""
        return self.facts.get(step, NO_FACTS) if identity.facts is None else identity.facts

    def paid_by(self, row: RowRef) -> tuple[SpendingScope, ...]:
        """Return the accounts that the calls of a row are paid from, open ones; none where nobody has limits."""
        return self.payers

    @property
    def pays_before_place(self) -> bool:
        """Return whether calls hold their money before they ask for a place, so that who waits for money keeps none
        that others could have."""
        return False

    def reads_id(self, row: RowRef) -> str:
        """Return the name of what shares one sight of the outside world: a read is made once in it."""
        return self.run_id

    def workflow_id(self, row: RowRef) -> str:
        """Return the name of a row's run among the workflows of all runs."""
        return f"{self.run_id}/{row}"


def call_key(run: RunScope, node: CallExec, call: BoundCall, identity: CallIdentity) -> bytes:
    """Return 16 bytes; equal for calls that have one result in common, and for the same call after a restart.

    An effect is known by run, row and path alone: whatever its payload becomes, this row's effect at this place happens
    once. Of all others the payload counts, and beyond `sharing` the run and the place.
    """
    if node.is_effect:
        return _digest("effect", run.run_id, str(identity.row), identity.path)
    parts = [node.step.operator, call.payload]
    if node.sharing is not Sharing.ALWAYS or run.is_fresh:
        parts.append(run.reads_id(identity.row))
    if node.sharing is Sharing.NEVER:
        parts += [str(identity.row), identity.path]
    return _digest(*parts)


def error_key(run: RunScope, identity: CallIdentity) -> bytes:
    """Return the key under which the failure of a call is kept, where one is."""
    return _digest("error", run.run_id, str(identity.row), identity.path)


def _digest(*parts: object) -> bytes:
    return blake2b(canonical_json(parts), digest_size=16).digest()
