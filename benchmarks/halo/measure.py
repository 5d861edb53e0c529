"""One arm on one case, measured: what it took, what it executed, what it answered.

Owns the form of a measurement. `python -m halo.measure` does it in a process of its own, so that no arm inherits
another's memory, imports or collector.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from halo.arms.catalog import BASELINES, FlowArm, flow_arm
from halo.arms.sundog import operators_of, planning_s, run_flow, write_flow
from halo.calls import LLMCall, open_client
from halo.case import MODELS, Case
from halo.inputs import make_rows
from halo.kept_queries import kept_queries
from halo.known_engines import calibrated
from halo.latency_server import LatencyServer
from halo.work import describe_work
from halo.workloads.catalog import WORKLOADS
from sundog.config import read_config
from sundog.host.virtual_loop import run_virtually

MAX_FAILURES_KEPT = 5
Measurement = dict[str, Any]


def measure(case: Case, arm: str) -> Measurement:
    """Run the arm from its first call to its last answer. Nothing of the case is cached in this process."""
    if not case.is_modelled:
        return asyncio.run(_measure(case, arm))
    kept = kept_queries(_kept_path(case)) if case.database.startswith("sqlite") else nullcontext()
    with kept:
        return run_virtually(_measure(case, arm), waits_for_threads=True)


def _kept_path(case: Case) -> Path:
    """Return a path beside the database, whose name says which data it has."""
    return Path(case.database.removeprefix("sqlite:///")).with_suffix(".kept")


async def _measure(case: Case, arm: str) -> Measurement:
    flow = flow_arm(arm)
    rows = make_rows(case.workload, case.num_rows, case.repetition, case.seed)
    clock = asyncio.get_running_loop().time
    with tempfile.TemporaryDirectory(prefix="sundog-bench-") as folder, _calibrated(case, Path(folder) / "cache"):
        async with LatencyServer(case.http_mean_s).serving() as server:
            facts: Measurement = {}
            if flow is not None:
                path = write_flow(case, rows, server.base_url, Path(folder) / "plan", flow)
                # Arms in modelled time run side by side, where only processor time means anything.
                planning_clock = time.process_time if case.is_modelled else time.perf_counter
                facts["planning_s"] = round(planning_s(path, flow, planning_clock), 4)
            begin_s, begin_cpu_s = clock(), time.process_time()
            if flow is None:
                values, executed = await _run_baseline(case, arm, rows, server.base_url)
            else:
                values, executed = await _run_sundog(case, flow, rows, server.base_url, Path(folder) / "run")
            wall_s, cpu_s = clock() - begin_s, time.process_time() - begin_cpu_s
            executed["num_http_requests"] = server.num_requests
    facts |= {"arm": arm, "wall_s": round(wall_s, 4), "cpu_s": round(cpu_s, 4), **executed, **_summary(values)}
    if arm in ("asyncio", "careful"):
        # The one executes every call of the batch, the other each distinct one: what it is made of, and the work.
        facts["batch"] = describe_work(facts.pop("calls"))
    facts.pop("calls", None)
    return facts


def _calibrated(case: Case, cache: Path) -> AbstractContextManager[None]:
    return calibrated(case, cache) if case.num_workers else nullcontext()


async def _run_baseline(
    case: Case, arm: str, rows: list[dict[str, Any]], base_url: str
) -> tuple[list[Any], Measurement]:
    async with open_client(case, base_url, read_config().secrets) as client:
        values = await BASELINES[arm](WORKLOADS[case.workload].graph, client, rows)
    return values, {"num_sql": client.counts.num_sql, **_totals(client.counts.llm)}


async def _run_sundog(
    case: Case, arm: FlowArm, rows: list[dict[str, Any]], base_url: str, folder: Path
) -> tuple[list[Any], Measurement]:
    values, report = await run_flow(case, rows, base_url, folder, arm)
    operators = operators_of(case)
    executed = {
        kind: sum(node.num_executed for node in report.nodes if operators[node.node] == kind) for kind in ("llm", "sql")
    }
    return values, {
        "num_llm": executed["llm"],
        "num_sql": executed["sql"],
        "num_prompt_tokens": report.num_prompt_tokens,
        "num_computed_prompt_tokens": report.num_computed_prompt_tokens,
        "num_output_tokens": report.num_output_tokens,
    }


def _totals(calls: list[LLMCall]) -> Measurement:
    prompt = sum(call.usage.num_prompt_tokens for call in calls)
    return {
        "num_llm": len(calls),
        "num_prompt_tokens": prompt,
        "num_computed_prompt_tokens": prompt - sum(call.usage.num_cached_tokens or 0 for call in calls),
        "num_output_tokens": sum(call.usage.num_output_tokens for call in calls),
        "calls": calls,
    }


def _summary(values: list[Any]) -> Measurement:
    """`answers`: a digest for each row, None for a failed one."""
    failures = [value for value in values if isinstance(value, BaseException)]
    return {
        "num_done": len(values) - len(failures),
        "num_failed": len(failures),
        "failures": [_describe(failure) for failure in failures[:MAX_FAILURES_KEPT]],
        "answers": [None if isinstance(value, BaseException) else _digest(value) for value in values],
    }


def _describe(failure: BaseException) -> str:
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return f"{type(failure).__name__}: {failure}"[:300]


def _digest(value: Any) -> str:
    return blake2b(json.dumps(value).encode(), digest_size=6).hexdigest()


def warm_up(case: Case, arm: str) -> None:
    """Load everything that the arm needs, on an engine without a model: imports are no part of its time."""
    blocks = {model: {"kind": "null", "model": model} for model in MODELS}
    measure(replace(case, num_rows=1, blocks=blocks, http_mean_s=0.0, is_modelled=False, num_workers=0), arm)


def main(case: Case, arm: str) -> None:
    warm_up(case, arm)
    print(json.dumps(measure(case, arm)))


if __name__ == "__main__":
    main(Case.from_json(sys.argv[1]), sys.argv[2])
