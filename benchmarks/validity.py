"""This benchmark measures how far a simulated run is from the real one, on real engines.

python benchmarks/validity.py embedded --tatqa tatqa_dataset_dev.json
python benchmarks/validity.py vllm --tatqa tatqa_dataset_dev.json    (SUNDOG_VLLM_PYTHON, SUNDOG_VLLM_MODEL)

The engine is calibrated once. Every flow runs once, which fills the history. Then, in turns: `sundog simulate` says
what it expects, the flow runs anew, and `sundog simulate --log` says what that very run should have taken, with the
answers that it had. Prefix caches are empty at each begin.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from halo.latency_server import LatencyServer
from halo.vllm_servers import running_vllm
from machine import save, sundog
from one_engine.flows import tatqa_flows, workload_flows

TARGET = "median error at most 5 %, worst at most 10 %"
KV_TOKENS = 64 * 1024
MAX_CONCURRENCY = 32
HTTP_MEAN_S = 0.5
Engine = tuple[Mapping[str, Any], Callable[[], None]]
"""The engine's block, and what empties its prefix cache."""


@contextmanager
def embedded() -> Iterator[Engine]:
    """Each command loads an engine of its own, so that its cache is empty."""
    yield {"kind": "openvino", "model": "smollm2-135m"}, lambda: None


@contextmanager
def vllm() -> Iterator[Engine]:
    with running_vllm(("local",), KV_TOKENS, MAX_CONCURRENCY) as servers:
        yield (
            {
                "kind": "openai",
                "model": "local",
                "base_url": servers.base_urls["local"],
                "max_concurrency": MAX_CONCURRENCY,
                "max_tokens_in_flight": KV_TOKENS,
            },
            servers.forget,
        )


ENGINES = {"embedded": embedded, "vllm": vllm}


def main() -> None:
    given = _arguments()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="sundog-validity-") as name, _http_server() as base_url:
        folder = Path(name)
        with ENGINES[given.engine]() as (block, forget):
            paths = workload_flows(folder, block, base_url, given.rows, given.seed)
            if given.tatqa:
                paths = chain(paths, tatqa_flows(folder, block, given.tatqa, given.questions))
            state = folder / "state"
            profile: Any = None
            for path in paths:
                if not any(part in path.parent.name for part in given.flows):
                    continue
                if profile is None:
                    profile = _json(sundog("calibrate", path, "--keep", "--json"), state)
                    # Where it lies is this machine's business.
                    del profile["profile"]
                forget()
                _run(path, state)
                found[path.parent.name] = [_measure(path, state, forget) for _ in range(given.repeats)]
                print(path.parent.name, found[path.parent.name], flush=True)
    save(
        f"validity_{given.engine}",
        {
            "target": TARGET,
            "num_rows": given.rows,
            "num_questions": given.questions,
            "errors": {kind: _errors(found, kind) for kind in ("simulated", "replayed")},
            "profile": profile,
            "flows": found,
        },
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--questions", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tatqa", type=Path, help="TAT-QA's dataset file (JSON)")
    parser.add_argument("--flows", nargs="*", default=[""], help="only those whose names hold one of these")
    return parser.parse_args()


def _measure(path: Path, state: Path, forget: Callable[[], None]) -> dict[str, Any]:
    forget()
    simulated = _json(sundog("simulate", path, "--format", "json"), state)["makespan_s"]
    ran = _run(path, state)
    replayed = _json(sundog("simulate", path, "--log", ran["run_id"], "--format", "json"), state)["makespan_s"]
    actual_s = ran["rows_s"]
    return {
        "actual_s": round(actual_s, 3),
        "simulated_s": {end: round(simulated[end], 3) for end in ("low", "expected", "high")},
        "simulated_off_by": round(simulated["expected"] / actual_s - 1, 4),
        "is_in_range": simulated["low"] <= actual_s <= simulated["high"],
        "replayed_s": round(replayed["expected"], 3),
        "replayed_off_by": round(replayed["expected"] / actual_s - 1, 4),
    }


def _run(path: Path, state: Path) -> dict[str, Any]:
    command = sundog("run", path, "--fresh", "--json", "--output", path.with_name("out.jsonl"), "--max-errors", "1000")
    return _json(command, state)


def _json(command: list[str], state: Path) -> dict[str, Any]:
    environment = {**os.environ, "SUNDOG_STATE": str(state)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _errors(found: Mapping[str, list[dict[str, Any]]], kind: str) -> dict[str, float]:
    """The errors of each flow's median run."""
    of_flow = [abs(statistics.median(run[f"{kind}_off_by"] for run in runs)) for runs in found.values()]
    return {"median": round(statistics.median(of_flow), 4), "worst": round(max(of_flow), 4)}


@contextmanager
def _http_server() -> Iterator[str]:
    """Yield the address of the workloads' HTTP server, on a loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = LatencyServer(HTTP_MEAN_S)
    serving = server.serving()
    asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result()
    try:
        yield server.base_url
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


if __name__ == "__main__":
    main()
