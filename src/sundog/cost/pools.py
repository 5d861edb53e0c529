"""What serves the calls of a plan, as far as it decides what they take, and what is known of a step beforehand.

Owns these records. Who fills them: measured.plan_costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sundog.cost.history import History, NodeRecord
from sundog.cost.profile import Profile
from sundog.cost.prompt_sample import Conversation, Measure
from sundog.tokens import TokenPrices


@dataclass(frozen=True, slots=True)
class EnginePool:
    """Equal replicas of one model. The limits are of one replica.

    `engine`: its block. `token_error`: how far `measure` may be off, as a fraction. `block_tokens`: of the prefix
    cache, None where there is none. `profile`: None when it was not calibrated here. `is_on_workers`: it takes turns
    with other engines, so that it is not there all the time. `shared_device`: engines with the same one
    share its processor.
    """

    name: str
    engine: str
    model: str
    measure: Measure
    token_error: float
    block_tokens: int | None
    num_replicas: int
    max_concurrency: int
    max_tokens_in_flight: int | None
    profile: Profile | None
    prices: TokenPrices | None
    is_on_workers: bool = False
    shared_device: str | None = None


@dataclass(frozen=True, slots=True)
class ToolPool:
    name: str
    max_concurrency: int


@dataclass(frozen=True, slots=True)
class StepFacts:
    """`conversation`: of an LLM step its messages, of others what their templates read. `identity`: what else decides
    the result, so that equal calls of two steps are known. `max_tokens`: None where the engine decides."""

    conversation: Conversation
    identity: str
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """All that an estimate rests on but the rows. `steps` by name; `pools` by name."""

    steps: Mapping[str, StepFacts]
    pools: Mapping[str, EnginePool | ToolPool]
    history: History

    def record(self, node: str, pool: str = "") -> NodeRecord | None:
        """Return what earlier runs have shown of a node with the model of its pool."""
        served = self.pools.get(pool)
        return self.history.get((node, served.model if isinstance(served, EnginePool) else ""))
