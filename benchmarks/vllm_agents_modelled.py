"""The agents of vllm_agents.py through vLLM's real scheduler in modelled time: the same on every machine, in a minute.

No model runs: a step takes what a step of SmolLM2-135M took on one CPU thread (fit over 417 steps of vLLM 0.32, mean
error 2.3 %). PYTHONPATH=benchmarks .venv-vllm/bin/python benchmarks/vllm_agents_modelled.py
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from machine import save
from vllm_agents import MAX_MODEL_LEN, MAX_TOKENS, Program, made
from vllm_scheduler import Ask, Driven

STEP_S, PREFILL_S, DECODE_S, CONTEXT_S, PAIR_S = 20.08e-3, 1.128e-3, 1.447e-3, 2.646e-6, 0.935e-6
MAX_STEPS = 100_000
SIZES = ((24, 120), (32, 160), (32, 200))
"""Programs, and blocks of 32 tokens."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policies", nargs="+", default=["continuum"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    runs = []
    for num_programs, num_blocks in SIZES:
        for seed in arguments.seeds:
            programs = made(num_programs, seed)
            stock = run(None, programs, num_blocks)
            for policy in arguments.policies:
                ours = run(policy, programs, num_blocks)
                runs.append(
                    {
                        "policy": policy,
                        "seed": seed,
                        "num_programs": num_programs,
                        "num_blocks": num_blocks,
                        "program_s_stock_over_ours": round(stock["mean_program_s"] / ours["mean_program_s"], 3),
                        "hit_rate_ours_over_stock": round(ours["hit_rate"] / stock["hit_rate"], 3),
                        "stock": stock,
                        "ours": ours,
                    }
                )
                print(runs[-1], flush=True)
    save("vllm_agents_modelled", {"runs": runs})


def run(policy: str | None, programs: Sequence[Program], num_blocks: int) -> dict[str, float]:
    """All programs from first arrival to last end, in modelled seconds."""
    driven = Driven(
        policy,
        num_blocks=num_blocks,
        block_size=32,
        max_num_seqs=16,
        max_num_batched_tokens=512,
        max_model_len=MAX_MODEL_LEN,
    )
    time_s = 0.0
    driven.scheduler.clock = lambda: time_s
    due: list[tuple[float, int, int, list[int]]] = [
        (program.arrival_s, number, 0, []) for number, program in enumerate(programs)
    ]
    heapq.heapify(due)
    running: dict[str, tuple[int, int]] = {}
    program_s: list[float] = []
    num_prompt_tokens = num_cached_tokens = num_preempted = num_steps = 0
    while due or running:
        time_s = time_s if running else max(time_s, due[0][0])
        while due and due[0][0] <= time_s:
            _, number, turn, before = heapq.heappop(due)
            call, name = programs[number].call(turn, before), f"{number}-{turn}"
            driven.ask(Ask(name, call.prompt, call.num_output_tokens, MAX_TOKENS, time_s, call.envelope))
            running[name] = number, turn
            num_prompt_tokens += len(call.prompt)
        output = driven.schedule()
        requests = dict(driven.scheduler.requests)
        num_cached_tokens += sum(one.num_computed_tokens for one in output.scheduled_new_reqs)
        num_preempted += len(output.preempted_req_ids or ())
        time_s += step_s(output.num_scheduled_tokens, requests)
        for name in driven.finish(output):
            number, turn = running.pop(name)
            if turn == len(programs[number].observations):
                program_s.append(time_s - programs[number].arrival_s)
            else:
                tokens = list(requests[name].all_token_ids)
                heapq.heappush(due, (time_s + programs[number].tool_s[turn], number, turn + 1, tokens))
        num_steps += 1
        assert num_steps < MAX_STEPS, "no progress"
    return {
        "mean_program_s": round(fmean(program_s), 2),
        "makespan_s": round(time_s, 2),
        "hit_rate": round(num_cached_tokens / num_prompt_tokens, 4),
        "num_preempted": num_preempted,
    }


def step_s(scheduled: dict[str, int], requests: dict[str, Any]) -> float:
    seconds = STEP_S
    for name, num_tokens in scheduled.items():
        num_context = requests[name].num_computed_tokens - num_tokens
        if num_context + 1 < requests[name].num_tokens:
            seconds += PREFILL_S * num_tokens + PAIR_S * (num_tokens * num_context + num_tokens * (num_tokens + 1) / 2)
        else:
            seconds += DECODE_S + CONTEXT_S * num_context
    return seconds


if __name__ == "__main__":
    main()
