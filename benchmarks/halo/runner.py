"""A run of the benchmark: which cases, on which engines, in which order.

Owns the discipline: warm-up, arms interleaved, caches emptied before each arm, a busy machine refused, every result
in a file of its own and nothing measured twice. Never decides what an arm does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby, product
from pathlib import Path
from typing import Any

from machine import facts

from halo.arms.catalog import is_installed
from halo.case import MODELS, Case, KVSize
from halo.deployments import Deployment, Sizes, running_engines
from halo.inputs import Repetition
from halo.measure import measure
from halo.processes import cpu_s
from halo.results import Result, result_path, write_result
from halo.work import work_bound_s
from halo.workloads.catalog import WORKLOADS, open_data
from sundog.config import read_config
from sundog.cost.profile import Profile
from sundog.errors import ConfigError

MAX_LOAD = 0.5
"""Of the load average, for each core."""
ARM_TIMEOUT_S = 1800
KV_STEP_TOKENS = 1024
LIBRARIES = ("langgraph", "openvino-genai", "bokeh-sampledata", "tpchgen-cli")

Say = Callable[[str], None]
Condition = tuple[Repetition, KVSize]


@dataclass(frozen=True, slots=True)
class Settings:
    """`conditions`: repetition of the rows and size of the KV cache. `num_rows`: one case for each. `replicas`: of the
    modelled engines, all models together. `is_isolated`: each arm in a process of its own. `profile`: of the engine,
    for the work bound."""

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
    profile: Profile | None = None


def run(settings: Settings, say: Say) -> int:
    """Measure what has no result file yet; the number of measurements made."""
    num_measured = 0
    waiting = [case for case in _cases(settings) if any(_missing(settings, case))]
    for kv_tokens, cases in groupby(waiting, key=lambda case: _kv_tokens(settings, case)):
        sizes = Sizes(kv_tokens, settings.replicas)
        with running_engines(settings.engine, sizes) as deployment:
            for number, case in enumerate(cases):
                case = replace(case, blocks=deployment.blocks, is_modelled=deployment.is_modelled)
                if number == 0 and settings.is_isolated:
                    warmed = _measure(settings, replace(case, num_rows=2, repetition="none"), "asyncio")
                    say(f"warm-up: {warmed.get('error') or 'done'}")
                for arm, repeat in _missing(settings, case):
                    result = _one(settings, deployment, case, arm, repeat)
                    write_result(result_path(settings.folder, case.slug, arm, repeat), result)
                    say(f"{case.slug} {arm} {repeat}: {result.get('error') or format(result['wall_s'], '.2f') + ' s'}")
                    num_measured += 1
    return num_measured


def refuse_busy_machine() -> None:
    """ConfigError when other work would be measured too."""
    load, limit = os.getloadavg()[0], MAX_LOAD * (os.cpu_count() or 1)
    if load > limit:
        raise ConfigError(
            f"the machine is busy: its load is {load:.1f}, and results are noise above {limit:.1f}",
            hint="wait, or measure all the same with --allow-busy",
        )


def _cases(settings: Settings) -> Iterator[Case]:
    """Cases of one KV size stand together, so that engines are started as seldom as possible."""
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


def _missing(settings: Settings, case: Case) -> Iterator[tuple[str, int]]:
    """Arms take turns: A B A B."""
    for repeat in range(settings.num_repeats):
        for arm in settings.arms:
            if not result_path(settings.folder, case.slug, arm, repeat).exists():
                yield arm, repeat


def _one(settings: Settings, deployment: Deployment, case: Case, arm: str, repeat: int) -> Result:
    deployment.forget()
    result: Result = {
        "slug": case.slug,
        "arm": arm,
        "repeat": repeat,
        "case": asdict(case),
        "machine": facts() | _versions() | dict(deployment.versions or {}),
    }
    if not is_installed(arm):
        return result | {"error": f"{arm} is not installed"}
    begin_cpu_s = cpu_s(deployment.process_ids)
    result |= _measure(settings, case, arm)
    result["engine_cpu_s"] = round(cpu_s(deployment.process_ids) - begin_cpu_s, 2)
    if "batch" in result and settings.profile is not None:
        # Models with fewer replicas than others would have a larger bound: this one is the smallest.
        num_replicas = max(1, -(-settings.replicas // len(MODELS))) if case.is_modelled else 1
        work = result["batch"]["work"]
        result["bound_s"] = round(
            work_bound_s(work, settings.profile, num_replicas=num_replicas, is_one_machine=not case.is_modelled), 4
        )
    return result


def _measure(settings: Settings, case: Case, arm: str) -> dict[str, Any]:
    if not settings.is_isolated:
        return measure(case, arm)
    command = [sys.executable, "-m", "halo.measure", case.to_json(), arm]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=ARM_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return {"error": f"not done within {ARM_TIMEOUT_S} s"}
    if done.returncode:
        return {"error": f"ended with {done.returncode}: {done.stderr[-1000:]}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _kv_tokens(settings: Settings, case: Case) -> int:
    """Room for the prefixes of one model: all of the batch, or a tenth of its prompt tokens."""
    if settings.engine == "null":
        return 0
    needs = [
        _prompt_tokens(replace(one, kv="large", engine="null"))
        for one in _cases(settings)
        if case.kv == "large" or one.slug == case.slug
    ]
    divisor = 1 if case.kv == "large" else 10
    return -(-max(needs) // (divisor * len(MODELS) * KV_STEP_TOKENS)) * KV_STEP_TOKENS


@cache
def _prompt_tokens_of(text: str) -> int:
    counted: int = measure(Case.from_json(text), "asyncio")["num_prompt_tokens"]
    return counted


def _prompt_tokens(case: Case) -> int:
    """Of every call of the batch, answers included in later prompts; four characters are a token."""
    blocks: Mapping[str, Any] = {model: {"kind": "null", "model": model, "output_tokens": 24} for model in MODELS}
    return _prompt_tokens_of(replace(case, blocks=blocks, http_mean_s=0.0, is_modelled=False).to_json())


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            """Its arm or engine is then not there either."""
    return found
