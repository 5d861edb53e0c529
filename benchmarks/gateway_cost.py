"""How much does a gateway in front of a model's server cost: latency, and processor time a request?

`python benchmarks/gateway_cost.py --litellm /path/of/litellm --vllm-router /path/of/vllm-router` asks a server that
computes nothing, directly and through each gateway in turn, 1, 64 and 512 requests in flight, streams and whole
answers, several rounds, all on loopback. Gateways share one core (`--gateway-core`), and only one has a load at a time;
the server and the load have the others. A gateway without a command is left out. Writes results/NAME.json. `--quick`
takes seconds and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gateway.arms import GATEWAYS, OWN_COMMAND, Gateway
from gateway.delays import DEFAULT_SEED, NUM_CHUNKS, SPREAD, Delays
from gateway.figures import DIRECT, Point, table, times_the_rate
from gateway.load import Measured
from gateway.processes import BENCHMARKS, cpu_s, free_port, pinned, started, wait_until_it_answers
from gateway.upstream import MODEL
from machine import save

TARGETS = "p50 added at most 3 ms at 64 in flight; at least 3 times the answers a second of litellm on the same core"
PATH = {"PYTHONPATH": str(BENCHMARKS)}
SETTLING_S, MAX_SETTLING = 0.2, 100


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm that runs. `pid`: of its gateway, None for none."""

    name: str
    url: str
    model: str
    pid: int | None = None

    def cpu_s(self) -> float:
        return 0.0 if self.pid is None else cpu_s(self.pid)


def main() -> None:
    given = _arguments()
    print(json.dumps(_settings(given)))
    with TemporaryDirectory() as folder, ExitStack() as stack:
        upstream = stack.enter_context(_upstream(given, Path(folder)))
        arms = [Arm(DIRECT, upstream, MODEL)]
        for name, command in _commands(given).items():
            arms.append(stack.enter_context(_running(name, command, upstream, given.gateway_core, Path(folder))))
        points = list(_points(given, arms))
    lines = table(points)
    for line in lines:
        print(_shown(line))
    if not given.quick:
        ratios = times_the_rate(lines, "sundog", "litellm")
        found = {"targets": TARGETS, "settings": _settings(given), "times_litellm": ratios, "lines": lines}
        save(given.name, found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sundog", default=OWN_COMMAND, help="command of sundog; '' leaves it out")
    other = "command of another sundog, as 'env PYTHONPATH=OTHER/src python -m sundog'"
    parser.add_argument("--sundog-other", default="", help=other)
    parser.add_argument("--litellm", default="", help="command of LiteLLM's proxy")
    parser.add_argument("--vllm-router", default="", help="command of vLLM's router")
    parser.add_argument("--in-flight", type=int, nargs="*", default=[1, 64, 512])
    parser.add_argument("--kinds", nargs="*", default=["whole", "stream"], choices=["whole", "stream"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--for-s", type=float, default=1.5, help="of each load")
    parser.add_argument("--whole-ms", type=float, default=100.0, help="mean delay of a whole answer")
    parser.add_argument("--first-ms", type=float, default=20.0, help="mean delay of a stream's first piece")
    parser.add_argument("--gap-ms", type=float, default=5.0, help="mean delay between two pieces of a stream")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of the delays, within 0.8 to 1.2 of the mean")
    parser.add_argument("--gateway-core", default="0", help="core of the gateways; '' pins nothing")
    parser.add_argument("--other-cores", default="1", help="cores of the server and the load; '' pins nothing")
    parser.add_argument("--quick", action="store_true", help="one round of half a second each")
    parser.add_argument("--name", default="gateway_cost", help="of the result file")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.for_s = 1, 0.5
    return given


def _settings(given: argparse.Namespace) -> dict[str, Any]:
    names = ("rounds", "for_s", "whole_ms", "first_ms", "gap_ms", "seed", "gateway_core", "other_cores")
    return {name: getattr(given, name) for name in names} | {"num_chunks": NUM_CHUNKS, "spread": SPREAD}


def _commands(given: argparse.Namespace) -> dict[str, str]:
    return {name: getattr(given, name) for name in GATEWAYS if getattr(given, name)}


def _delays(given: argparse.Namespace) -> Delays:
    return Delays(given.whole_ms / 1000, given.first_ms / 1000, given.gap_ms / 1000, given.seed)


@contextmanager
def _upstream(given: argparse.Namespace, folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "gateway.upstream", *_delays(given).arguments()]
    with started(pinned(command, given.other_cores), folder / "upstream.log", PATH) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"


@contextmanager
def _running(name: str, command: str, upstream: str, core: str, folder: Path) -> Iterator[Arm]:
    folder = folder / name
    folder.mkdir()
    gateway: Gateway = GATEWAYS[name](upstream, free_port(), folder, command)
    log = folder / "log"
    with started(pinned(gateway.command, core), log, gateway.environment) as process:
        try:
            wait_until_it_answers(f"{gateway.url}/models", process)
        except RuntimeError as error:
            raise SystemExit(f"{name}: {error}\n{log.read_text()[-2000:]}") from error
        yield Arm(name, gateway.url, gateway.model, process.pid)


def _points(given: argparse.Namespace, arms: list[Arm]) -> Iterator[Point]:
    """Yield the figures of all loads: the arms take turns within a round, which begins with another one each time."""
    for arm in arms:
        for kind in given.kinds:
            _load(given, arm, 8, kind, min(1.0, given.for_s))
    for number in range(given.rounds):
        for kind in given.kinds:
            for num_in_flight in given.in_flight:
                for place in range(len(arms)):
                    arm = arms[(place + number) % len(arms)]
                    before_s = arm.cpu_s()
                    measured = _load(given, arm, num_in_flight, kind, given.for_s)
                    yield Point(arm.name, num_in_flight, kind == "stream", measured, arm.cpu_s() - before_s)
                    _settle(arm)


def _settle(arm: Arm) -> None:
    """Wait until the gateway is idle: one goes on for a while with what was cut off."""
    for _ in range(MAX_SETTLING):
        before_s = arm.cpu_s()
        time.sleep(SETTLING_S)
        if arm.cpu_s() - before_s <= 0.1 * SETTLING_S:
            return


def _load(given: argparse.Namespace, arm: Arm, num_in_flight: int, kind: str, for_s: float) -> Measured:
    command = [sys.executable, "-m", "gateway.load", arm.url, "--model", arm.model]
    command += ["--in-flight", str(num_in_flight), "--for-s", str(for_s), *_delays(given).arguments()]
    command += ["--stream"] if kind == "stream" else []
    told = subprocess.run(
        pinned(command, given.other_cores), capture_output=True, text=True, check=True, timeout=120, cwd=BENCHMARKS
    )
    return Measured(**json.loads(told.stdout))


def _shown(line: dict[str, Any]) -> str:
    kind = "stream" if line["is_streamed"] else "whole"
    added = f"added {line['added_p50_ms']} / {line['added_p95_ms']} ms, " if "added_p50_ms" in line else ""
    head = f"{kind:<6} {line['num_in_flight']:>3} {line['arm']:<11} {line['answers_per_s']:>7} a second, "
    times = f"p50 {line['p50_ms']}, p95 {line['p95_ms']} ms, {added}"
    lost = f"{line['num_failures']} failures, {line['num_unanswered']} cut off"
    return f"{head}{times}cpu {line['cpu_ms_per_answer']} ms, {lost}"


if __name__ == "__main__":
    main()
