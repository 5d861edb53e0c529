"""The identity of who asks: session, parent, class, rank and limits, as headers and fields of a request tell them.

Owns the names under which clients and routers tell them, in their order. Never keeps anything: the books of sessions
are the host's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sundog.sched.facts import TIERS, Tier
from sundog.serve.told_values import ToldValues, read_id, refuse_told

PATH = "path"
"""The source of a session that the address names: `/s/ID/v1`."""
_CLAUDE_CODE = "x-claude-code-session-id"
_CODEX = ("session-id", "session_id")
SESSION_NAMES: tuple[str, ...] = (
    "x-session-id",
    "body:session_id",
    "body:vllm_xargs.session_id",
    "x-dynamo-session-id",
    _CLAUDE_CODE,
    *_CODEX,
    "x-session-affinity",
    "x-litellm-trace-id",
    "body:litellm_session_id",
    "body:metadata.session_id",
    "body:program_id",
    "body:extra_body.program_id",
    "body:prompt_cache_key",
    "x-correlation-id",
)
"""The names that tell a session: vLLM and OpenCode, Dynamo, coding agents, LiteLLM, ThunderAgent, OpenAI."""
PARENT_NAMES = ("x-parent-session-id", "x-dynamo-parent-session-id")
FINAL_NAME = "x-dynamo-session-final"
TENANT_NAMES = (
    "x-llm-d-inference-fairness-id",
    "x-gateway-inference-fairness-id",
    "x-smg-tenant-id",
    "x-tenant-id",
)
_AGENT, _PARENT_AGENT = "x-claude-code-agent-id", "x-claude-code-parent-agent-id"
_THREAD, _PARENT_THREAD = "thread-id", "x-codex-parent-thread-id"
_TIERS: Mapping[str, Mapping[str, Tier]] = {
    "body:service_tier": {
        "auto": "default",
        "default": "default",
        "fast": "priority",
        "flex": "flex",
        "priority": "priority",
        "scale": "default",
        "standard_only": "default",
    },
    "x-smg-priority": {"bulk": "flex", "default": "default", "interactive": "priority", "system": "priority"},
}
_OBJECTIVES = ("x-llm-d-inference-objective", "x-gateway-inference-objective")
_OBJECTIVE_TIERS: Mapping[str, Tier] = {tier: tier for tier in TIERS}
_RANKS = ("x-vllm-priority", "body:priority", "body:nvext.agent_hints.priority")
_HIGHER_IS_SOONER = "body:nvext.agent_hints.priority"
_MOST_PRIORITY = 2**31 - 1
_TTFT = ("x-llm-d-slo-ttft-ms", "x-slo-ttft-ms")
_TPOT = ("x-llm-d-slo-tpot-ms", "x-slo-tpot-ms")
_TIMEOUT = ("x-litellm-timeout",)
_LENGTH = ("body:nvext.agent_hints.osl",)
_MOST_TOKENS = 2**31 - 1
DEADLINE_NAME = "x-sundog-deadline"
BUDGET_NAME = "x-sundog-budget"
MAX_USD_NAME = "x-sundog-max-usd"
MAX_TOKENS_NAME = "x-sundog-max-tokens"
OWN_NAMES = frozenset({DEADLINE_NAME, BUDGET_NAME, MAX_USD_NAME, MAX_TOKENS_NAME})
"""The headers that mean something here alone."""
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
IDENTITY_HEADERS = frozenset(
    name
    for name in (
        *SESSION_NAMES,
        *PARENT_NAMES,
        *TENANT_NAMES,
        *_OBJECTIVES,
        *_TIERS,
        *_RANKS,
        *_TTFT,
        *_TPOT,
        *_TIMEOUT,
        FINAL_NAME,
        _AGENT,
        _PARENT_AGENT,
        _THREAD,
        _PARENT_THREAD,
        *OWN_NAMES,
    )
    if not name.startswith("body:")
)
"""The headers, in small letters, that say who asks and how urgently."""
_IDENTITY_FIELDS = frozenset(
    name.removeprefix("body:").partition(".")[0]
    for name in (*SESSION_NAMES, *_TIERS, *_RANKS, *_LENGTH)
    if name.startswith("body:")
)
"""The outermost fields of a body that say so."""


@dataclass(frozen=True, slots=True)
class ToldIdentity:
    """All that a request tells of itself; empty, or None, where it tells nothing."""

    session: str = ""
    #: The header or field that told the session; `path` for the address.
    session_source: str = ""
    #: The session that started this one.
    parent: str = ""
    #: The session ends, and the request asks for nothing else.
    is_final: bool = False
    tier: Tier = "default"
    #: Smaller is sooner, as vLLM has it.
    priority: int = 0
    tenant: str = ""
    #: The share of its tenant among those that wait, which its key tells and no request.
    weight: float = 1.0
    #: The wished time to the first token.
    ttft_s: float | None = None
    #: The wished time of each later token.
    tpot_s: float | None = None
    #: The client waits so long for its answer.
    timeout_s: float | None = None
    num_expected_output_tokens: int | None = None
    #: The whole program is to end within it, counted from now.
    deadline_s: float | None = None
    #: The whole program may cost so much.
    budget_usd: float | None = None
    #: This request may cost so much.
    max_usd: float | None = None
    max_tokens: int | None = None
    #: W3C trace context, as it came; empty where it is none.
    traceparent: str = ""


NOTHING_TOLD = ToldIdentity()


def told_of(headers: Mapping[str, str], body: Mapping[str, Any], path_session: str | None = None) -> ToldIdentity:
    """Return what a request tells of itself; Refusal, which names the header or the field, for a value that cannot be
    read. `headers`: by names in small letters. `path_session`: the one of an address `/s/ID/v1`."""
    traceparent = _traceparent(headers.get("traceparent", ""))
    if not path_session and _IDENTITY_FIELDS.isdisjoint(body) and IDENTITY_HEADERS.isdisjoint(headers):
        return ToldIdentity(traceparent=traceparent) if traceparent else NOTHING_TOLD
    told = ToldValues(headers, body)
    source, session, parent = _session(told, path_session)
    _, num_tokens = told.first_whole(_LENGTH, least=0, most=_MOST_TOKENS)
    return ToldIdentity(
        session=session,
        session_source=source,
        parent=parent if parent != session else "",
        is_final=told.flag(FINAL_NAME),
        tier=_tier(told),
        priority=_priority(told),
        tenant=told.first_id(TENANT_NAMES)[1],
        ttft_s=told.first_number(_TTFT, least=0, scale=0.001),
        tpot_s=told.first_number(_TPOT, least=0, scale=0.001),
        timeout_s=told.first_number(_TIMEOUT, least=0),
        num_expected_output_tokens=num_tokens,
        deadline_s=told.first_number((DEADLINE_NAME,), least=0),
        budget_usd=told.first_number((BUDGET_NAME,), least=0),
        max_usd=told.first_number((MAX_USD_NAME,), least=0),
        max_tokens=told.first_whole((MAX_TOKENS_NAME,), least=0, most=_MOST_TOKENS)[1],
        traceparent=traceparent,
    )


def _session(told: ToldValues, path_session: str | None) -> tuple[str, str, str]:
    """Return who tells the session, the session and its parent."""
    if path_session:
        source, session = PATH, read_id(path_session, PATH)
    else:
        source, session = told.first_id(SESSION_NAMES)
    _, parent = told.first_id(PARENT_NAMES)
    for sources, own, above in ((_CLAUDE_CODE,), _AGENT, _PARENT_AGENT), (_CODEX, _THREAD, _PARENT_THREAD):
        _, agent = told.first_id((own,))
        if agent and agent != session and source in (PATH, *sources):
            # The session is the one that the user began; each of its agents has one within it.
            _, parent_agent = told.first_id((above,))
            within = f"{session}/{parent_agent}" if parent_agent not in ("", session) else session
            return source, f"{session}/{agent}", parent or within
    return source, session, parent


def _tier(told: ToldValues) -> Tier:
    for name, tiers in _TIERS.items():
        value = told.found(name)
        if value is None:
            continue
        if not isinstance(value, str) or value.lower() not in tiers:
            refuse_told(name, f"must be one of {', '.join(tiers)}")
        return tiers[value.lower()]
    # An objective is a name that its operator has chosen: any other one is none of ours.
    _, objective = told.first_id(_OBJECTIVES)
    return _OBJECTIVE_TIERS.get(objective.lower(), "default")


def _priority(told: ToldValues) -> int:
    """Return the rank in vLLM's sign. In Dynamo's hints a higher number is sooner; nothing else turns a sign."""
    name, number = told.first_whole(_RANKS, least=-_MOST_PRIORITY, most=_MOST_PRIORITY)
    if number is None:
        return 0
    return -number if name == _HIGHER_IS_SOONER else number


def _traceparent(written: str) -> str:
    """Return a trace context that can be passed on. The specification lets a receiver begin a new trace in place of one
    that it cannot read."""
    found = written.strip()
    return found if len(found) <= 512 and _TRACEPARENT.fullmatch(found) else ""
