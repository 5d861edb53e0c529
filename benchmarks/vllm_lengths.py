"""Answers of mixed lengths near the capacity of the KV cache: stock vLLM and the policy set `past_future`.

Two steps, one with short and one with long answers, both with the same bound; the lengths are learned from those that
have ended. PYTHONPATH=benchmarks .venv-vllm/bin/python benchmarks/vllm_lengths.py
"""

from __future__ import annotations

import argparse
import random

from machine import save
from vllm_agents import tokens
from vllm_arms import Arm, Call, ratio, settings

MAX_TOKENS = 384
NODES = {"label": (8, 40), "report": (120, 320)}
"""Shortest and longest answer of each step."""
TARGETS = "at least 80 % fewer preemptions than stock at no more than 3 % lower throughput"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=240)
    parser.add_argument("--blocks", type=int, default=96, help="of 32 tokens")
    parser.add_argument("--slots", type=int, default=24)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--policy", default="past_future")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arms = [
        Arm(policy, num_blocks=arguments.blocks, max_num_seqs=arguments.slots, max_model_len=1024)
        for policy in (None, arguments.policy)
    ]
    runs: list[dict[str, object]] = []
    rates, num_preempted = [], [0, 0]
    for repetition in range(arguments.repetitions):
        seed = arguments.seed + repetition
        calls = made(arguments.requests, seed)
        counts = [arm.run([(0.0, call) for call in calls], lambda answer: None) for arm in arms]
        rates.append((counts[1].num_output_tokens / counts[1].wall_s, counts[0].num_output_tokens / counts[0].wall_s))
        num_preempted = [before + one.num_preempted for before, one in zip(num_preempted, counts, strict=True)]
        for arm, one in zip(arms, counts, strict=True):
            runs.append({"arm": arm.name, "seed": seed, **one.summary()})
            print(runs[-1], flush=True)
    save(
        "vllm_lengths",
        {
            "targets": TARGETS,
            "settings": settings(**vars(arguments)),
            "num_preempted_stock_and_ours": num_preempted,
            "throughput_ours_over_stock": ratio(rates),
            "runs": runs,
        },
    )


def made(num_requests: int, seed: int) -> list[Call]:
    draw = random.Random(seed)
    calls = []
    for number in range(num_requests):
        node = draw.choice(sorted(NODES))
        envelope = {"flow": "lengths", "node": node, "workflow": f"r{seed}-{number}"}
        prompt = tokens(draw, draw.randrange(32, 128))
        calls.append(Call(prompt, draw.randint(*NODES[node]), MAX_TOKENS, envelope))
    return calls


if __name__ == "__main__":
    main()
