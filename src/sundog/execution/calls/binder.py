"""A step bound to a row: the call, the key of its result, and whom it may be gathered with.

Owns the guard around what operators do before a call runs. Never runs anything.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, cast

from sundog.execution.calls.call_key import CallIdentity, RunScope, call_key
from sundog.execution.calls.guard import fail_call
from sundog.ir.physical import CallExec
from sundog.ir.templates.render import Scope
from sundog.operators.base import BoundCall, GatheringOperator, Operator, PreparingOperator
from sundog.secrets import Secrets


class Binder:
    """This class binds the steps of one run to its rows. `identities` are those of its engines, by name."""

    def __init__(
        self,
        run: RunScope,
        operators: Mapping[str, Operator],
        identities: Mapping[str, Mapping[str, Any]],
        secrets: Secrets,
    ) -> None:
        self._run = run
        self._operators = operators
        self._identities = identities
        self._secrets = secrets

    def bind(self, node: CallExec, scope: Scope, identity: CallIdentity) -> tuple[BoundCall, bytes]:
        """Return the call and its key; CallError where the row has no such call."""
        try:
            call = self._operators[node.step.operator].bind(node.step.spec, scope, self._identities)
            return call, call_key(self._run, node, call, identity)
        except BaseException as error:  # fail_call decides what passes
            fail_call(error, self._secrets)

    async def prepare(self, node: CallExec, call: BoundCall, identity: CallIdentity) -> tuple[BoundCall, bytes]:
        """Return an unprepared call with what its files hold, and its key; CallError for a bad file."""
        operator = cast(PreparingOperator, self._operators[node.step.operator])
        try:
            call = await operator.prepare(call)
            return call, call_key(self._run, node, call, identity)
        except BaseException as error:  # as in bind
            fail_call(error, self._secrets)

    def group_of(self, node: CallExec, call: BoundCall) -> Hashable | None:
        """Return whom a call of a gathered step may be gathered with; None where it must run alone."""
        # Its traits named a look-up, or the step would not be gathered.
        operator = cast(GatheringOperator, self._operators[node.step.operator])
        try:
            return operator.group_of(node.step.spec, call)
        except BaseException as error:  # as in bind
            fail_call(error, self._secrets)
