"""This benchmark measures what sundog's scheduler adds to vLLM's for each engine step while many requests wait.

Both schedulers without a model, the same requests, steps of one and of the other in turns. Run with vLLM's interpreter:
PYTHONPATH=benchmarks .venv-vllm/bin/python benchmarks/vllm_overhead.py
"""

from __future__ import annotations

import argparse
import random
import time
from statistics import median

from machine import save
from vllm_scheduler import Ask, Driven

NUM_RUNNING = 64
TARGET = "at most 1 ms a step over stock with 1,000 waiting"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--policies", nargs="+", default=["continuum", "past_future", "slack_edf", "prefix_grouped"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    runs = [
        measure(policy, num_waiting, arguments.steps, arguments.seed, is_tight=is_tight)
        for num_waiting in arguments.waiting
        for policy in arguments.policies
        for is_tight in (False, True)
    ]
    save("vllm_overhead", {"target": TARGET, "seed": arguments.seed, "num_running": NUM_RUNNING, "runs": runs})


def measure(policy: str, num_waiting: int, num_steps: int, seed: int, *, is_tight: bool) -> dict[str, object]:
    """`is_tight`: the cache is full before all slots are, so that admission and victims are asked at each step."""
    arms = {name: filled(name, num_waiting, seed, is_tight=is_tight) for name in (None, policy)}
    times_ms: dict[str | None, list[float]] = {name: [] for name in arms}
    for _ in range(num_steps):
        for name, driven in arms.items():
            began_s = time.perf_counter()
            output = driven.schedule()
            between_s = time.perf_counter()
            driven.finish(output)
            times_ms[name].append(1e3 * (between_s - began_s))
    over = [ours - stock for ours, stock in zip(times_ms[policy], times_ms[None], strict=True)]
    return {
        "policy": policy,
        "num_waiting": num_waiting,
        "is_tight": is_tight,
        "stock_ms": round(median(times_ms[None]), 3),
        "sundog_ms": round(median(times_ms[policy]), 3),
        "over_ms": round(median(over), 3),
        "over_p95_ms": round(sorted(over)[int(0.95 * len(over))], 3),
    }


def filled(policy: str | None, num_waiting: int, seed: int, *, is_tight: bool) -> Driven:
    """Prompts of 64 to 512 tokens, a quarter of which begins alike; answers are longer than the measurement."""
    draw = random.Random(seed)
    driven = Driven(
        policy,
        num_blocks=1_500 if is_tight else 20_000,
        max_num_seqs=NUM_RUNNING,
        max_num_batched_tokens=2_048,
        max_model_len=8_192,
    )
    shared = [draw.randrange(10, 300) for _ in range(128)]
    for number in range(num_waiting + NUM_RUNNING):
        own = [draw.randrange(10, 300) for _ in range(draw.randrange(64, 384))]
        envelope = {
            "workflow": f"w{number % 500}",
            "node": f"n{number % 5}",
            "turn": number // 500,
            "last_turn": False,
            "deadline_s": 60.0 + number,
        }
        prompt = shared + own if number % 4 == 0 else own
        driven.ask(Ask(f"r{number}", prompt, 4_000, 4_000, float(number), envelope))
    for _ in range(40):
        driven.step()
    return driven


if __name__ == "__main__":
    main()
