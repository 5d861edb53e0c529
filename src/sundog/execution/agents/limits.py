"""The end of a conversation that has not come to an answer. Pure: it follows from committed answers alone, so that a
run that goes on ends it where the first one would have.

Owns the limits' order and meaning. Never asks anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sundog.engines.base import Usage
from sundog.execution.calls.dispatch import EngineUsage
from sundog.ir.agent_turn import AgentTurnSpec
from sundog.ir.agents import Agent
from sundog.ir.templates.render import Scope, render_condition

Stopped = Literal["answer", "max_turns", "tokens", "seconds", "usd", "stop_when", "repeats", "context"]


def why_stopped(
    agent: Agent,
    scope: Scope,
    usages: Sequence[Usage],
    inner: Sequence[EngineUsage],
    used: Sequence[Sequence[bytes]],
    call_seconds: Sequence[float],
    said: Mapping[str, Any],
) -> Stopped | None:
    """Return what ends a conversation after a turn that called tools; None where it goes on. `usages`: of its turns;
    `inner`: of the models that its tools have asked, in any order; `used`: by turn, what its uses of tools were;
    `call_seconds`: of each of its calls, in any order; `said`: what `stop_when` reads beside the scope."""
    if _ends_alike(used, agent.max_repeats) or _ends_alike([use for turn in used for use in turn], agent.max_repeats):
        return "repeats"
    if agent.stop_when is not None and render_condition(agent.stop_when, {**scope, **said}):
        return "stop_when"
    limits = agent.limits
    spent = [*((_engine(agent), usage) for usage in usages), *inner]
    if limits.tokens is not None and num_tokens(spent) >= limits.tokens:
        return "tokens"
    # The exact sum does not depend on the order in which uses of tools ended.
    if limits.seconds is not None and math.fsum(call_seconds) >= limits.seconds:
        return "seconds"
    if limits.usd is not None and _usd(agent, spent) >= limits.usd:
        return "usd"
    assert isinstance(agent.max_turns, int), "an agent's is no template"
    return "max_turns" if len(usages) >= agent.max_turns else None


def _ends_alike(items: Sequence[Sequence[bytes] | bytes], number: int) -> bool:
    """Return whether there are so many, and the last ones are equal."""
    return len(items) >= number and all(item == items[-1] for item in items[-number:])


def num_tokens(spent: Sequence[EngineUsage]) -> int:
    """Return the tokens of all prompts and answers."""
    return sum(usage.num_prompt_tokens + usage.num_output_tokens for _, usage in spent)


def _usd(agent: Agent, spent: Sequence[EngineUsage]) -> float:
    prices = {name: (prompt, output) for name, prompt, output in agent.limits.prices}
    # As of seconds, the exact sum.
    return math.fsum(
        usage.num_prompt_tokens * prices[engine][0] + usage.num_output_tokens * prices[engine][1]
        for engine, usage in spent
        if engine in prices
    )


def _engine(agent: Agent) -> str:
    spec = agent.turn.spec
    assert isinstance(spec, AgentTurnSpec)
    return spec.engine
