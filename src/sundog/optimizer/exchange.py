"""The steps whose equal calls meet where their rows lie, and those whose calls must be asked for.

Rows of a run on many machines lie in buckets: rows with one partition value (the first value of the reading order) lie
in one bucket, unless that is split. A cell makes equal calls of its own rows once; owners keep two cells from making
one call. A step need not ask them where its calls prove that equal ones have one partition value (see
optimizer.value_proofs), and no other step may make such a call without proving the same. Elsewhere owners are asked,
which is always right.

Owns this choice. Never looks at rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sundog.ir.agents import AgentExec, ToolFlowExec
from sundog.ir.physical import CallExec, Exec, LoopExec, PhysicalPlan, Sharing, calls_of
from sundog.ir.templates.template import Path, spell_path
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.value_proofs import KnownPayload, ProofFinder, ValueProof


class Meeting(Enum):
    """The place where equal calls of a step meet, so that one of them is made."""

    ALONE = "alone"  # no call has its result in common with another row's
    BUCKET = "bucket"  # in the cell that holds the bucket
    OWNER = "owner"  # at the owner of the call's key


@dataclass(frozen=True, slots=True)
class StepMeeting:
    """This class says where equal calls of a step meet, and why there."""

    step: str
    meeting: Meeting
    #: A phrase.
    reason: str
    #: Set where they meet in their bucket.
    proof: ValueProof | None = None


@dataclass(frozen=True, slots=True)
class TableExchange:
    """This class says by which value the rows of a table are cut, and where equal calls of its steps meet."""

    #: None where there is no such value.
    partition: Path | None
    #: By name, in the order of the plan, those inside loops too.
    steps: Mapping[str, StepMeeting]

    def asks_owner(self, step: str, payload: Any, *, is_split: bool) -> bool:
        """Return whether a call must be asked for before it is made; the same for equal calls of the table.

        `is_split`: rows with the partition value of this one may lie in another cell, by a split of its bucket or of
        its part.
        """
        found = self.steps[step]
        if found.meeting is Meeting.ALONE:
            return False
        return is_split or found.proof is None or not found.proof.proves(payload)


def exchange_of(
    plan: PhysicalPlan, table: str, partition: Path | None, facts: PlanFacts, *, elides: bool = True
) -> TableExchange:
    """Return where equal calls of a table's steps meet. `partition`: the value by which its rows are cut into buckets,
    None where they lie anywhere. With `elides` False every call that others may share is asked for."""
    chooser = _Chooser(plan, table, partition if elides else None, facts)
    return TableExchange(partition, {call.name: chooser.step(call) for call in calls_of(plan.table(table).nodes)})


class _Chooser:
    def __init__(self, plan: PhysicalPlan, table: str, partition: Path | None, facts: PlanFacts) -> None:
        self._partition = partition
        self._finder = ProofFinder(partition or (), plan.logical.constants)
        self._agents = {call.name for call in _calls_of_agents(plan.table(table).nodes)}
        #: By step, in all tables, of the calls that have results in common.
        self._shared: dict[str, KnownPayload] = {}
        self._here = {call.name for call in calls_of(plan.table(table).nodes)}
        if partition is None:
            return
        for call in calls_of(plan.nodes):
            if not call.is_effect and call.sharing is not Sharing.NEVER:
                form = facts.traits(call.step).payload
                self._shared[call.name] = self._finder.payload(call.step.operator, form)

    def step(self, call: CallExec) -> StepMeeting:
        """Return where equal calls of a step of the table meet."""
        if call.is_effect:
            return StepMeeting(call.name, Meeting.ALONE, "an effect is each row's own")
        if call.sharing is Sharing.NEVER:
            return StepMeeting(call.name, Meeting.ALONE, "its calls are each row's own")
        if self._partition is None:
            return StepMeeting(call.name, Meeting.OWNER, "no value keeps equal calls in one bucket")
        if call.name in self._agents:
            return StepMeeting(call.name, Meeting.OWNER, "an agent's calls follow from its answers")
        value = spell_path(self._partition)
        own = self._shared[call.name]
        unlike = ""
        for proof in own.proofs:
            unlike = self._unlike(call.name, own, proof)
            if not unlike:
                reason = f"its calls hold {value}" + ("; those that may not show it whole ask" if proof.is_text else "")
                return StepMeeting(call.name, Meeting.BUCKET, reason, proof)
        reason = f"'{unlike}' may make the same call" if unlike else self._finder.why_not(own, value)
        return StepMeeting(call.name, Meeting.OWNER, reason)

    def _unlike(self, step: str, own: KnownPayload, proof: ValueProof) -> str:
        """Return another step that may make the same call, and that does not prove the value alike; "" for none."""
        for name, other in self._shared.items():
            is_alike = name in self._here and proof in other.proofs
            if name != step and not is_alike and own.may_equal(other):
                return name
        return ""


def _calls_of_agents(nodes: Sequence[Exec]) -> Iterator[CallExec]:
    for node in nodes:
        match node:
            case AgentExec() | ToolFlowExec():
                yield from calls_of([node])
            case LoopExec():
                yield from _calls_of_agents(node.body)
