"""Agents with tools between their turns, more of them than the KV cache holds: stock vLLM and a policy set.

A program is one agent: each turn sends all that was said before plus an observation, so a turn finds its prompt cached
unless others pushed it out while the tool ran. PYTHONPATH=benchmarks .venv-vllm/bin/python benchmarks/vllm_agents.py

The table below has the shape of 5,789 steps of 133 runs of SWE-agent (ThunderAgent's traces, MIT), scaled down to a
small model: tokens by 16, turns by 4, seconds of tools as they were.
"""

from __future__ import annotations

import argparse
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from machine import save
from vllm_arms import Answer, Arm, Call, Counts, mean, ratio, settings

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""The quantiles that each row of the table gives."""
NUM_TURNS = (5, 6.5, 7.5, 9.75, 12.5, 16.6, 19)
NUM_FIRST_TOKENS = (20, 23, 28, 35, 50, 73, 90)
NUM_OBSERVED_TOKENS = (6, 11, 19, 37, 75, 130, 220)
NUM_OUTPUT_TOKENS = (2, 2, 3, 5, 9, 18, 30)
TOOL_S = (0.12, 0.13, 0.145, 0.155, 0.30, 0.40, 1.5)
SYSTEM_TOKENS = 64
ARRIVAL_S = 0.2
MAX_TOKENS = 64
MAX_MODEL_LEN = 2_048
TARGETS = "mean program completion at least 1.5 times better than stock, prefix hit rate at least 1.3 times"


@dataclass
class Program:
    """The script of one agent: what it will see and say; every arm gets the same."""

    name: str
    arrival_s: float
    first: list[int]
    observations: list[list[int]]
    num_output_tokens: list[int]
    tool_s: list[float]

    @property
    def num_tokens(self) -> int:
        """Return the tokens of its last prompt and answer."""
        return len(self.first) + sum(map(len, self.observations)) + sum(self.num_output_tokens)

    def call(self, turn: int, before: Sequence[int]) -> Call:
        return Call(
            [*before, *(self.observations[turn - 1] if turn else self.first)],
            self.num_output_tokens[turn],
            MAX_TOKENS,
            {
                "flow": "agents",
                "node": "turn",
                "workflow": self.name,
                "turn": turn,
                "last_turn": turn == len(self.observations),
                "tool": "shell",
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=160, help="of 32 tokens")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--policy", default="continuum")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arms = [
        Arm(policy, num_blocks=arguments.blocks, max_num_seqs=16, max_model_len=MAX_MODEL_LEN)
        for policy in (None, arguments.policy)
    ]
    runs: list[dict[str, object]] = []
    pairs: list[list[tuple[float, float]]] = [[], []]
    for repetition in range(arguments.repetitions):
        seed = arguments.seed + repetition
        programs = made(arguments.programs, seed)
        (stock, stock_s), (ours, ours_s) = (run(arm, programs) for arm in arms)
        pairs[0].append((mean(stock_s), mean(ours_s)))
        pairs[1].append((ours.num_cached_tokens, stock.num_cached_tokens))
        for arm, counts, times_s in zip(arms, (stock, ours), (stock_s, ours_s), strict=True):
            runs.append({"arm": arm.name, "seed": seed, "mean_program_s": mean(times_s), **counts.summary()})
            print(runs[-1], flush=True)
    save(
        "vllm_agents",
        {
            "targets": TARGETS,
            "settings": settings(**vars(arguments)),
            "program_s_stock_over_ours": ratio(pairs[0]),
            "hits_ours_over_stock": ratio(pairs[1]),
            "runs": runs,
        },
    )


def made(num_programs: int, seed: int) -> list[Program]:
    draw = random.Random(seed)
    system = tokens(draw, SYSTEM_TOKENS)
    programs: list[Program] = []
    while len(programs) < num_programs:
        number = len(programs)
        num_turns = round(sample(draw, NUM_TURNS))
        program = Program(
            f"p{seed}-{number}",
            number * ARRIVAL_S,
            system + tokens(draw, round(sample(draw, NUM_FIRST_TOKENS))),
            [tokens(draw, round(sample(draw, NUM_OBSERVED_TOKENS))) for _ in range(num_turns - 1)],
            [round(sample(draw, NUM_OUTPUT_TOKENS)) for _ in range(num_turns)],
            [sample(draw, TOOL_S) for _ in range(num_turns)],
        )
        if program.num_tokens < MAX_MODEL_LEN - MAX_TOKENS:
            programs.append(program)
    return programs


def run(arm: Arm, programs: Sequence[Program]) -> tuple[Counts, list[float]]:
    """The counts, and the seconds from arrival to end of each program."""
    by_name = {program.name: program for program in programs}
    ended_s: dict[str, float] = {}

    def next_turn(answer: Answer) -> tuple[float, Call] | None:
        envelope = answer.call.envelope
        program, turn = by_name[envelope["workflow"]], envelope["turn"]
        if envelope["last_turn"]:
            ended_s[program.name] = answer.ended_s
            return None
        return program.tool_s[turn], program.call(turn + 1, [*answer.call.prompt, *answer.tokens])

    counts = arm.run([(program.arrival_s, program.call(0, [])) for program in programs], next_turn)
    return counts, [ended_s[program.name] - program.arrival_s for program in programs]


def sample(draw: random.Random, quantiles: Sequence[float]) -> float:
    """Draw from the distribution that has these quantiles, linear between them."""
    share = draw.random()
    place = min(bisect_right(SHARES, share), len(SHARES) - 1)
    below, above = SHARES[place - 1], SHARES[place]
    low, high = quantiles[place - 1], quantiles[place]
    return low + (high - low) * (share - below) / (above - below)


def tokens(draw: random.Random, num_tokens: int) -> list[int]:
    return [draw.randrange(1_000, 40_000) for _ in range(num_tokens)]


if __name__ == "__main__":
    main()
