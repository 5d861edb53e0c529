"""The steps whose equal calls meet where their rows lie, and those whose calls must be asked for.

Rows of a run on many machines lie in buckets: rows with one partition value (the first value of the reading order) lie
in one bucket, unless that is split. A cell makes equal calls of its own rows once; owners keep two cells from making
one call. A step need not ask them for a call that proves that equal ones have one partition value (see
optimizer.value_proofs). Elsewhere owners are asked, which is always right.

Owns this choice. Never looks at rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from sundog.ir.agents import AgentExec, ToolFlowExec
from sundog.ir.physical import CallExec, Exec, LoopExec, PhysicalPlan, Sharing, calls_of
from sundog.ir.templates.template import Path, spell_path
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.payload_shapes import KnownPayload
from sundog.optimizer.value_proofs import ValueProof, value_proofs, why_no_proof


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
        """Return whether a call must be asked for before it is made. Of equal calls all are asked for, or all come from
        rows with one partition value.

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
        self._here = {call.name for call in calls_of(plan.table(table).nodes)}
        self._agents = {call.name for call in _calls_of_agents(plan.table(table).nodes)}
        #: By step, in all tables, of the calls that have results in common.
        self._shared: dict[str, KnownPayload] = {}
        if partition is None:
            return
        for call in calls_of(plan.nodes):
            if not call.is_effect and call.sharing is not Sharing.NEVER:
                form = facts.traits(call.step).payload
                self._shared[call.name] = KnownPayload.of(call.step.operator, form, plan.logical.constants)

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
        value, own = spell_path(self._partition), self._shared[call.name]
        others = {name: other for name, other in self._shared.items() if other is not own and own.may_equal(other)}
        reason = why_no_proof(own, self._partition, value)
        for proof in value_proofs(own, self._partition):
            unlike = {name: other for name, other in others.items() if not self._is_alike(name, other, proof)}
            covering = next((name for name, other in unlike.items() if other.covers(own)), None)
            if covering is None:
                proof = replace(proof, others=tuple(dict.fromkeys(other.shape for other in unlike.values())))
                reason = f"its calls hold {value}" + ("" if proof.is_certain else "; those that leave it in doubt ask")
                return StepMeeting(call.name, Meeting.BUCKET, reason, proof)
            reason = f"'{covering}' may make the same call"
        return StepMeeting(call.name, Meeting.OWNER, reason)

    def _is_alike(self, step: str, payload: KnownPayload, proof: ValueProof) -> bool:
        """Return whether another step, too, holds the partition value where `proof` says, and in the same way."""
        return step in self._here and proof in value_proofs(payload, self._partition or ())


def _calls_of_agents(nodes: Sequence[Exec]) -> Iterator[CallExec]:
    for node in nodes:
        match node:
            case AgentExec() | ToolFlowExec():
                yield from calls_of([node])
            case LoopExec():
                yield from _calls_of_agents(node.body)
