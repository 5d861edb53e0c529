"""The pools that serve the calls of a plan, as far as they decide what calls take, and the facts of a step that are
known beforehand.

Owns these records. Who fills them: measured.plan_costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from sundog.cost.history import History, NodeRecord, tokens_per_counted
from sundog.cost.profile import Profile
from sundog.cost.prompt_sample import Filling, Measure, ScaledMeasure, filling_of
from sundog.ir.conversations.written import Conversation
from sundog.tokens import TokenPrices

SCALED_ERROR = 0.05
"""The relative error of tokens that are counted from characters and scaled as in earlier runs of the step."""


@dataclass(frozen=True, slots=True)
class EnginePool:
    """Equal replicas of one model. The limits are of one replica."""

    name: str
    #: The name of its block.
    engine: str
    model: str
    measure: ScaledMeasure
    #: The relative error of `measure`, as a fraction; 0 where the tokenizer is here.
    token_error: float
    #: Tokens of a block of its prefix cache, None where there is none.
    block_tokens: int | None
    num_replicas: int
    max_concurrency: int
    max_tokens_in_flight: int | None
    #: None where it was not calibrated here.
    profile: Profile | None
    prices: TokenPrices | None
    #: It takes turns with other engines, so that it is not there all the time.
    is_on_workers: bool = False
    #: Engines with the same one share its processor.
    shared_device: str | None = None
    #: Tokens that its KV cache holds, None where nobody can tell.
    max_kv_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ToolPool:
    name: str
    max_concurrency: int


@dataclass(frozen=True, slots=True)
class StepFacts:
    """Facts of a step that an estimate needs."""

    #: The messages of an LLM step; for another step, what its templates read.
    conversation: Conversation
    #: The rest of what decides the result, so that equal calls of two steps are known.
    identity: str
    #: None where the engine decides.
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """All that an estimate rests on but the rows."""

    #: By name.
    steps: Mapping[str, StepFacts]
    #: By name.
    pools: Mapping[str, EnginePool | ToolPool]
    history: History

    def measure(self, node: str, pool: EnginePool) -> Measure:
        """Return what measures the prompts of a step: earlier runs tell how far counting from characters is off."""
        return partial(pool.measure, scale=self._scale(node, pool) or 1.0, block_scale=self._block_scale(pool))

    def token_error(self, node: str, pool: EnginePool) -> float:
        """Return the relative error of the tokens that `measure` tells."""
        return pool.token_error if self._scale(node, pool) is None else min(pool.token_error, SCALED_ERROR)

    def filling(self, node: str, pool: EnginePool) -> Filling:
        """Return what stands for text to come in the prompts of a step."""
        record = self.record(node, pool.name)
        told = None if record is None or not record.prompt_tokens.counts else record.prompt_tokens.mean
        return filling_of(self.measure(node, pool), told)

    def _block_scale(self, pool: EnginePool) -> float:
        if not pool.token_error:
            return 1.0
        records = [record for (_, model), record in self.history.items() if model == pool.model]
        told = [(scale, record.counted_tokens.total) for record in records if (scale := tokens_per_counted(record))]
        return sum(scale * weight for scale, weight in told) / sum(weight for _, weight in told) if told else 1.0

    def _scale(self, node: str, pool: EnginePool) -> float | None:
        return tokens_per_counted(self.record(node, pool.name)) if pool.token_error else None

    def record(self, node: str, pool: str = "") -> NodeRecord | None:
        """Return what earlier runs have shown of a node with the model of its pool."""
        served = self.pools.get(pool)
        return self.history.get((node, served.model if isinstance(served, EnginePool) else ""))
