"""A run of the benchmark: engines, arms, results.

Owns the discipline: warm-up, caches emptied before each arm, a busy machine waited for, every result in a file of its
own. Never decides what an arm does; the order is decided in `turns`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from typing import Any

from machine import facts

from halo.arms.catalog import is_installed
from halo.case import Case
from halo.deployments import Deployment, Sizes, running_engines
from halo.idle import Say, wait_until_idle
from halo.measure import measure
from halo.processes import cpu_s
from halo.results import Result, result_path, write_result
from halo.turns import Item, Settings, turns
from halo.work import work_bound_s

ARM_TIMEOUT_S = 1800
LIBRARIES = ("langgraph", "dspy", "daft", "openvino-genai", "bokeh-sampledata", "tpchgen-cli")


def run(settings: Settings, say: Say) -> int:
    """Measure what has no result file yet; the number of measurements made."""
    num_measured = 0
    begin_s = time.monotonic()
    with _Engines(settings, say) as engines:
        for turn in turns(settings):
            if settings.needs_idle_machine:
                wait_until_idle(say)
            for _, items in groupby(turn, key=lambda item: item.kv_tokens):
                for item, result in _results(settings, engines, list(items)):
                    path = result_path(settings.folder, item.case.slug, item.arm, item.repeat)
                    write_result(path, result)
                    outcome = result.get("error") or f"{result['wall_s']:.2f} s"
                    say(f"{item.case.slug} {item.arm} {item.repeat}: {outcome}")
                    num_measured += 1
                    if time.monotonic() - begin_s > settings.max_s:
                        say("the time is up; the same command goes on from here")
                        return num_measured
    return num_measured


class _Engines:
    """The engines of a run, started anew only when their size changes."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self._settings = settings
        self._say = say
        self._running = ExitStack()
        self._kv_tokens: int | None = None
        self._deployment: Deployment | None = None

    def __enter__(self) -> _Engines:
        return self

    def __exit__(self, *raised: object) -> None:
        self._running.close()

    def sized(self, case: Case, kv_tokens: int) -> Deployment:
        """Engines with room for `kv_tokens`, warmed up with the first case that they serve."""
        if self._deployment is None or self._kv_tokens != kv_tokens:
            self._running.close()
            sizes = Sizes(kv_tokens, self._settings.replicas)
            self._deployment = self._running.enter_context(running_engines(self._settings.engine, sizes))
            self._kv_tokens = kv_tokens
            if self._settings.is_isolated and not self._deployment.is_modelled:
                warmed = _measure(
                    self._settings, _on(self._deployment, replace(case, num_rows=2, repetition="none")), "asyncio"
                )
                self._say(f"warm-up: {warmed.get('error') or 'done'}")
        return self._deployment


def _on(deployment: Deployment, case: Case) -> Case:
    return replace(
        case, blocks=deployment.blocks, is_modelled=deployment.is_modelled, num_workers=deployment.num_workers
    )


def _results(settings: Settings, engines: _Engines, items: list[Item]) -> Iterator[tuple[Item, Result]]:
    """Yield the results of items for the same engines, in order. In modelled time they run side by side."""
    deployment = engines.sized(items[0].case, items[0].kv_tokens)

    def measured(item: Item) -> Result:
        return _one(settings, deployment, _on(deployment, item.case), item.arm, item.repeat)

    if not (deployment.is_modelled and settings.is_isolated):
        for item in items:
            yield item, measured(item)
        return
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield from zip(items, pool.map(measured, items), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _one(settings: Settings, deployment: Deployment, case: Case, arm: str, repeat: int) -> Result:
    deployment.forget()
    result: Result = {
        "slug": case.slug,
        "arm": arm,
        "repeat": repeat,
        "case": case.for_result(),
        "machine": facts() | _versions() | dict(deployment.versions or {}),
    }
    if not is_installed(arm):
        return result | {"error": f"{arm} is not installed"}
    begin_cpu_s = cpu_s(deployment.process_ids)
    result |= _measure(settings, case, arm)
    result["engine_cpu_s"] = round(cpu_s(deployment.process_ids) - begin_cpu_s, 2)
    if "batch" in result and settings.profiles:
        result["bound_s"] = round(work_bound_s(result["batch"]["work"], settings.profiles, case.num_workers or 1), 4)
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


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            """Its arm or engine is then not there either."""
    return found
