"""Modelled time: batches of a size that this machine cannot run.

Owns how long the steps and the loads of the modelled engines last. In modelled time the engines' steps and the HTTP
server's latency pass as modelled; databases, commits and the coordinator's own processor time take none, so that a busy
machine changes nothing. Processor time is reported beside.
"""

from __future__ import annotations

from collections.abc import Mapping

from placed.graphs import MODEL_SIZES_B
from placed.graphs import load_s as published_load_s

PUBLISHED_MODELS: Mapping[str, str] = {"a": "q14", "b": "o20", "c": "q32"}
"""The model of Halo that each model of the workloads stands for: 14, 20 and 32 billion parameters."""
STEP_TIME = (2.5e-2, 1e-4, 1.5e-4, 5e-8, 5e-9)
"""Round numbers of the order of a model of STEP_TIME_SIZE_B on one data-centre GPU; not measured."""
STEP_TIME_SIZE_B = 30
MAX_STEP_TOKENS = 2048


def step_time(model: str) -> tuple[float, float, float, float, float]:
    """Return the coefficients of the model's step time, which are in proportion to its size."""
    share = MODEL_SIZES_B[PUBLISHED_MODELS[model]] / STEP_TIME_SIZE_B
    step_s, prefill_token_s, decode_token_s, context_token_s, attention_pair_s = (share * one for one in STEP_TIME)
    return step_s, prefill_token_s, decode_token_s, context_token_s, attention_pair_s


def load_s(model: str) -> float:
    """Return the seconds of a load, by Halo's constant. Every arm's engines are loaded within its time."""
    return published_load_s(PUBLISHED_MODELS[model])
