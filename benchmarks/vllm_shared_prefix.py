"""A batch of questions about documents that together are larger than the KV cache: stock vLLM and `prefix_grouped`.

The questions come shuffled and all at once. The least that any order computes is each document once and each question.
PYTHONPATH=benchmarks .venv-vllm/bin/python benchmarks/vllm_shared_prefix.py
"""

from __future__ import annotations

import argparse
import random

from machine import save
from vllm_agents import tokens
from vllm_arms import BLOCK_TOKENS, Arm, Call, Counts, ratio, settings

MAX_TOKENS = 16
QUESTION_TOKENS = 24
TARGETS = "computed prompt tokens at most 1.1 times the distinct minimum"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=24)
    parser.add_argument("--questions", type=int, default=6)
    parser.add_argument("--document-tokens", type=int, default=512)
    parser.add_argument("--blocks", type=int, default=128, help="of 32 tokens")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--policy", default="prefix_grouped")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arms = [
        Arm(policy, num_blocks=arguments.blocks, max_num_seqs=arguments.slots, max_model_len=2048)
        for policy in (None, arguments.policy)
    ]
    runs: list[dict[str, object]] = []
    walls = []
    for repetition in range(arguments.repetitions):
        seed = arguments.seed + repetition
        calls = made(arguments.documents, arguments.questions, arguments.document_tokens, seed)
        counts = [arm.run([(0.0, call) for call in calls], lambda answer: None) for arm in arms]
        walls.append((counts[0].wall_s, counts[1].wall_s))
        for arm, one in zip(arms, counts, strict=True):
            over = computed_over_least(one, arguments.documents, arguments.document_tokens)
            runs.append({"arm": arm.name, "seed": seed, "computed_over_least": over, **one.summary()})
            print(runs[-1], flush=True)
    save(
        "vllm_shared_prefix",
        {
            "targets": TARGETS,
            "settings": settings(**vars(arguments)),
            "wall_s_stock_over_ours": ratio(walls),
            "runs": runs,
        },
    )


def made(num_documents: int, num_questions: int, num_document_tokens: int, seed: int) -> list[Call]:
    draw = random.Random(seed)
    calls = []
    for document in range(num_documents):
        text = tokens(draw, num_document_tokens)
        for question in range(num_questions):
            name = f"{seed}-{document}-{question}"
            envelope = {"flow": "documents", "node": "ask", "workflow": name, "prefix_group": f"{seed}-{document}"}
            calls.append(Call([*text, *tokens(draw, QUESTION_TOKENS)], draw.randrange(4, 12), MAX_TOKENS, envelope))
    draw.shuffle(calls)
    return calls


def computed_over_least(counts: Counts, num_documents: int, num_document_tokens: int) -> float:
    """Whole blocks of a document can be shared; what is left of it is computed with each question."""
    num_shared = num_document_tokens // BLOCK_TOKENS * BLOCK_TOKENS
    least = counts.num_prompt_tokens - (len(counts.answers) - num_documents) * num_shared
    return round((counts.num_prompt_tokens - counts.num_cached_tokens) / least, 4)


if __name__ == "__main__":
    main()
