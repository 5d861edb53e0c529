"""The claim of an effect: said before it starts, taken back only where it is known not to have happened.

Owns what an unknown outcome means. Never runs the effect; its result settles the claim in the store, in one commit.
"""

from __future__ import annotations

from typing import TypeVar

from sundog.errors import CallError, OperatorError, RunStopped
from sundog.execution.calls.call_key import CallIdentity, RunScope
from sundog.host.attempt import RunAttempt, Success
from sundog.sched.events import Submit
from sundog.store.store import Store

T = TypeVar("T")


class Claim:
    """The claim of one effect of this run; OperatorError where an earlier one has no outcome."""

    def __init__(self, store: Store, run: RunScope, key: bytes, identity: CallIdentity) -> None:
        self._store = store
        self._run = run
        self._key = key
        self._identity = identity
        self._is_taken = False
        if store.is_claimed(key) and not run.repeats_unknown_effects:
            raise OperatorError(
                f"this effect was started before and its outcome is unknown (idempotency key {key.hex()})",
                hint="look at the other side; then repeat the command with --retry-failed --repeat-unknown-effects to "
                "run it again under the same key",
                is_outcome_unknown=True,
            )

    def around(self, attempt: RunAttempt[T]) -> RunAttempt[T]:
        """Return `attempt` with the claim taken before it, and taken back after a failure that left nothing behind."""

        async def claimed(submit: Submit) -> Success[T]:
            await self._take()
            try:
                return await attempt(submit)
            except (CallError, RunStopped) as error:
                await self._failed(error)
                raise

        return claimed

    async def _take(self) -> None:
        """Return once the claim is committed. Not before the core has submitted the call: a crash must leave no doubt
        about effects that only waited."""
        if not self._is_taken:
            await self._store.claim(self._key, self._run.run_id, self._identity.request_id)
            self._is_taken = True

    async def _failed(self, error: CallError | RunStopped) -> None:
        """Take the claim back, unless the effect may have happened: a crash before the next attempt must leave no doubt
        about an effect that is known not to have happened."""
        is_unknown = isinstance(error, CallError) and error.is_outcome_unknown
        if self._is_taken and not is_unknown:
            self._is_taken = False
            await self._store.release(self._key)
