"""The measurements of a run of the benchmark, and their order.

Owns the cases of a run, the size of the KV cache that each gets, and the order: interleaved, so that a run which is
stopped is of use. Never measures anything but the sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import groupby, product
from math import inf
from pathlib import Path
from typing import Any

from halo.arms.catalog import OWN_THREADS
from halo.case import MODELS, Case, KVSize
from halo.inputs import Repetition
from halo.measure import measure
from halo.results import result_path
from halo.workloads.catalog import WORKLOADS, open_data
from sundog.config import read_config
from sundog.cost.profile import Profile

KV_STEP_TOKENS = 1024
# Where there are more rows, prompt tokens are counted on so many and scaled up.
MAX_COUNTED_ROWS = 256

Condition = tuple[Repetition, KVSize]


@dataclass(frozen=True, slots=True)
class Settings:
    """`conditions`: repetition of the rows and size of the KV cache. `num_rows`: one case for each. `replicas`: of the
    modelled engines, all models together. `is_isolated`: each arm in a process of its own. `needs_idle_machine`: wait
    for one before each repetition. `max_s`: begin nothing after it. `profiles`: of each model's
    engine, for the work bound; empty where they are not known."""

    engine: str
    workloads: tuple[str, ...]
    arms: tuple[str, ...]
    conditions: tuple[Condition, ...]
    num_rows: tuple[int, ...]
    num_repeats: int
    seed: int
    folder: Path
    replicas: int = 8
    http_mean_s: float = 0.5
    tpch_scale: float = 0.01
    database: str | None = None
    is_isolated: bool = True
    needs_idle_machine: bool = False
    max_s: float = inf
    profiles: Mapping[str, Profile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Item:
    """One measurement to be made. `kv_tokens`: of the engines that it needs."""

    case: Case
    arm: str
    repeat: int
    kv_tokens: int


def turns(settings: Settings) -> Iterator[list[Item]]:
    """Yield what is missing, a repetition of all cases of one KV size at a time, so that a run which is stopped leaves
    whole comparisons. Arms take turns: A B A B. Every other repetition takes the engines' sizes in reverse: each one is
    started for the last case of one repetition and the first of the next."""
    cases = [(case, kv_tokens_of(settings, case)) for case in cases_of(settings) if any(missing(settings, case))]
    for _, same_kv in groupby(cases, key=lambda pair: pair[0].kv):
        ordered = sorted(same_kv, key=lambda pair: pair[1])
        for repeat in range(settings.num_repeats):
            turn = [
                Item(case, arm, repeat, kv_tokens)
                for case, kv_tokens in (ordered if repeat % 2 == 0 else reversed(ordered))
                for arm, number in missing(settings, case)
                if number == repeat
            ]
            if turn:
                yield turn


def cases_of(settings: Settings) -> Iterator[Case]:
    """Cases of one KV size stand together."""
    secrets = read_config().secrets
    conditions = sorted(settings.conditions, key=lambda condition: condition[1])
    for (repetition, kv), num_rows, workload in product(conditions, settings.num_rows, settings.workloads):
        data = WORKLOADS[workload].data
        url = open_data(data, settings.tpch_scale, settings.database, secrets)
        yield Case(
            workload, num_rows, repetition, settings.seed, _engine_name(settings), kv, {}, url, settings.http_mean_s
        )


def _engine_name(settings: Settings) -> str:
    return f"{settings.engine}{settings.replicas}" if settings.engine == "modelled" else settings.engine


def missing(settings: Settings, case: Case) -> Iterator[tuple[str, int]]:
    """Arms and repetitions without a result."""
    arms = [arm for arm in settings.arms if settings.engine != "modelled" or arm not in OWN_THREADS]
    for repeat in range(settings.num_repeats):
        for arm in arms:
            if not result_path(settings.folder, case.slug, arm, repeat).exists():
                yield arm, repeat


def kv_tokens_of(settings: Settings, case: Case) -> int:
    """Room for the prefixes of one model: all of the batch, or a tenth of its prompt tokens."""
    if settings.engine == "null":
        return 0
    needs = [
        _prompt_tokens(replace(one, kv="large", engine="null"))
        for one in cases_of(settings)
        if case.kv == "large" or one.slug == case.slug
    ]
    divisor = 1 if case.kv == "large" else 10
    return -(-max(needs) // (divisor * len(MODELS) * KV_STEP_TOKENS)) * KV_STEP_TOKENS


def _prompt_tokens(case: Case) -> int:
    """Return the prompt tokens of every call of the batch, answers included in later prompts; four characters are a
    token."""
    blocks: Mapping[str, Any] = {model: {"kind": "null", "model": model, "output_tokens": 24} for model in MODELS}
    num_counted = min(case.num_rows, MAX_COUNTED_ROWS)
    counted = replace(case, num_rows=num_counted, blocks=blocks, http_mean_s=0.0, is_modelled=True)
    return _prompt_tokens_of(counted.to_json()) * case.num_rows // num_counted


@cache
def _prompt_tokens_of(text: str) -> int:
    counted: int = measure(Case.from_json(text), "asyncio")["num_prompt_tokens"]
    return counted
