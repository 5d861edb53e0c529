"""The requests that the core is told of: one for each call that runs alone, and one for those that are gathered.

Owns the translation of a plan's step and a call's identity into a request. Never tells the core; the driver does.
"""

from __future__ import annotations

from collections.abc import Mapping

from sundog.engines.base import Engine
from sundog.execution.calls.call_key import CallIdentity, RunScope
from sundog.execution.calls.guard import fail_call
from sundog.host.arrival import prompt_tokens, shared_prefix
from sundog.ir.physical import CallExec
from sundog.operators.base import BoundCall
from sundog.sched.events import RequestArrived
from sundog.secrets import Secrets
from sundog.tokens import DEFAULT_OUTPUT_TOKENS

GATHERED = " gathered"
"""Ends the id of a request that answers several calls: its first call may have a request of its own afterwards."""


class Requests:
    """This class makes the requests of one run. `by_pool` has an engine of each pool that has had one. `needs_s` tells
    by step when the plan needs its results, and may change. With `needs_prefixes` the policies compare prompts."""

    def __init__(
        self,
        run: RunScope,
        by_pool: Mapping[str, Engine],
        needs_s: Mapping[str, float],
        secrets: Secrets,
        *,
        needs_prefixes: bool,
    ) -> None:
        self._run = run
        self._by_pool = by_pool
        self._needs_s = needs_s
        self._secrets = secrets
        self._needs_prefixes = needs_prefixes

    def alone(self, node: CallExec, call: BoundCall, identity: CallIdentity) -> RequestArrived:
        """Return the request of one call; CallError where its engine cannot count the prompt's tokens."""
        request_id = identity.request_id
        num_prompt_tokens, key = self._prompt_of(node, call, request_id) if call.prompt else (0, ())
        return RequestArrived(
            0.0,
            request_id,
            node.pool,
            identity.order,
            identity.depth,
            num_prompt_tokens,
            (call.max_tokens or DEFAULT_OUTPUT_TOKENS) if call.prompt else 0,
            key,
            max_attempts=node.max_attempts,
            need_s=self._needs_s.get(node.name, 0.0),
            has_successor=node.has_successor and bool(key),
            max_retry_wait_s=node.max_retry_wait_s,
            workflow_id=self._run.workflow_id(identity.row),
            facts=self._run.facts_of(node.name, identity),
        )

    def gathered(self, node: CallExec, identity: CallIdentity) -> RequestArrived:
        """Return the request of gathered calls, in the place of the first of them: one attempt, as they then run
        alone."""
        return RequestArrived(
            0.0,
            identity.request_id + GATHERED,
            node.pool,
            identity.order,
            identity.depth,
            need_s=self._needs_s.get(node.name, 0.0),
            workflow_id=self._run.workflow_id(identity.row),
            facts=self._run.facts_of(node.name, identity),
        )

    def _prompt_of(self, node: CallExec, call: BoundCall, request_id: str) -> tuple[int, tuple[int, ...]]:
        """Return its tokens and its prefix key."""
        try:
            engine = self._by_pool.get(node.pool)
            key = shared_prefix(engine, call.prompt) if self._needs_prefixes else ()
            return prompt_tokens(engine, request_id, call.prompt), key
        except BaseException as error:  # fail_call decides what passes
            fail_call(error, self._secrets)
