"""How many requests a second do Halo's online modes, plain asyncio, LangGraph and sundog get out of one real vLLM
server, and how long do they take?

`SUNDOG_VLLM_PYTHON=... SUNDOG_VLLM_MODEL=... python benchmarks/vllm_online.py` starts one server and sends one
published graph's requests to it in open loops of real time: a ramp, and a fixed load of 0.75 of the best published
arm's peak. All models of the graph are that server's one. Tools last a share of what the graph says, as calls are
shorter than at full size. Each arm begins with an empty prefix cache; sundog's with an empty state. Writes
results/NAME.json.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from halo.vllm_servers import VLLMServers, running_vllm
from machine import save
from online.answered import Answered, peak_per_s, percentile
from online.load import Asked, Load
from online.real.arms import Answer, Gathered, by_asyncio, by_langgraph, by_segments, by_server, by_windows
from online.real.asking import MODEL, Asking
from online.real.loads import answered
from online.real.served_flow import serving
from placed.graphs import Graph, published_graphs

OURS = "sundog"
PUBLISHED = ("windows", "segments")
CLIENT_ARMS: Mapping[str, Callable[[Asking], Answer | Gathered]] = {
    "windows": by_windows,
    "segments": by_segments,
    "asyncio": by_asyncio,
    "langgraph": by_langgraph,
}
ARMS = (*CLIENT_ARMS, OURS)
KV_TOKENS = 65_536
CASES = ("repeated", "none")


def main() -> None:
    given = _arguments()
    graph = published_graphs()[given.workload]
    found: list[dict[str, Any]] = []
    with running_vllm((MODEL,), KV_TOKENS, given.places) as servers:
        for repetition in given.cases:
            num_queries = given.queries if repetition == "repeated" else None
            case = _Case(given, graph, servers, num_queries)
            peaks = {arm: peak_per_s(case.course(arm, given.most_per_s, is_ramp=True)) for arm in ARMS}
            print(repetition, "peak of the ramp:", {arm: round(peak, 2) for arm, peak in peaks.items()}, flush=True)
            rate = 0.75 * max(peaks[arm] for arm in PUBLISHED)
            latencies = {arm: _latencies(case.course(arm, rate), given.fixed_s) for arm in ARMS}
            print(repetition, f"at {rate:.2f} a second:", latencies, flush=True)
            found.append(
                {
                    "repetition": repetition,
                    "peak_per_s": {arm: round(peak, 3) for arm, peak in peaks.items()},
                    "over_best_published": round(peaks[OURS] / max(peaks[arm] for arm in PUBLISHED), 3),
                    "over_asyncio": round(peaks[OURS] / peaks["asyncio"], 3),
                    "fixed": {"rate_per_s": round(rate, 3), "arms": latencies},
                }
            )
            save(given.name, {"settings": {**vars(given)}, "cases": found}, is_shown=False)


class _Case:
    """One kind of repetition."""

    def __init__(self, given: argparse.Namespace, graph: Graph, servers: VLLMServers, num_queries: int | None) -> None:
        self._given = given
        self._graph = graph
        self._servers = servers
        self._num_queries = num_queries

    def course(self, arm: str, rate_per_s: float, *, is_ramp: bool = False) -> list[Answered]:
        """Return the course of a load of an arm."""
        self._servers.forget()
        duration_s = self._given.ramp_s if is_ramp else self._given.fixed_s
        load = Load("poisson", rate_per_s, "none", is_ramp, duration_s, self._given.seed)
        asked = [Asked(one.time_s, self._query(number)) for number, one in enumerate(load.asked())]
        until_s = duration_s if is_ramp else 2 * duration_s
        return asyncio.run(self._run(arm, asked, until_s))

    def _query(self, number: int) -> int:
        """Return a query; the same numbers give the same in every arm."""
        return number if self._num_queries is None else number * 7919 % self._num_queries

    async def _run(self, arm: str, asked: list[Asked], until_s: float) -> list[Answered]:
        async with self._opened(arm) as answer:
            return await answered(answer, asked, until_s)

    @asynccontextmanager
    async def _opened(self, arm: str) -> AsyncIterator[Answer]:
        given, base_url = self._given, self._servers.base_urls[MODEL]
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        if arm == OURS:
            with (
                TemporaryDirectory() as folder,
                serving(self._graph, base_url, given.output_tokens, given.tool_scale, Path(folder)) as address,
            ):
                async with httpx.AsyncClient(base_url=address, timeout=None, limits=limits) as client:
                    yield by_server(client, self._graph.name)
            return
        async with httpx.AsyncClient(base_url=base_url, timeout=None, limits=limits) as client:
            made = CLIENT_ARMS[arm](Asking(client, self._graph, given.output_tokens, given.tool_scale))
            if not isinstance(made, Gathered):
                yield made
                return
            try:
                yield made.answer
            finally:
                await made.close()


def _latencies(course: list[Answered], duration_s: float) -> dict[str, Any]:
    """Return percentiles over all requests and over those of the second half; infinite ones as null."""
    late = [one for one in course if one.time_s >= duration_s / 2]
    found: dict[str, Any] = {"num_requests": len(course), "num_open": sum(one.end_s == float("inf") for one in course)}
    for kind, some in (("", course), ("late_", late)):
        for share in (0.5, 0.95):
            value = percentile([one.latency_s for one in some], share)
            found[f"p{share * 100:.0f}_{kind}s"] = None if value == float("inf") else round(value, 3)
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", default="w1")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--queries", type=int, default=20, help="different queries, where they repeat")
    parser.add_argument("--most-per-s", type=float, default=16.0, help="rate with which the ramp ends")
    parser.add_argument("--ramp-s", type=float, default=60.0)
    parser.add_argument("--fixed-s", type=float, default=40.0)
    parser.add_argument("--places", type=int, default=8, help="requests that the server runs at once")
    parser.add_argument("--output-tokens", type=int, default=16, help="of each answer")
    parser.add_argument("--tool-scale", type=float, default=0.1, help="what tools last, as a share")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="vllm_online", help="of the result file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
