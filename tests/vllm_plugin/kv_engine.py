"""A vLLM engine with the KV connector in a process of its own, run by the interpreter that has vLLM.

kv_engine.py MODEL_FOLDER OPTIONS   prompts (lists of token ids) as JSON lines in, answers as JSON lines out
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    from vllm import LLM, SamplingParams

    model, options = sys.argv[1], json.loads(sys.argv[2])
    llm = LLM(model=model, seed=0, **options)
    answer(llm, SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True))


def answer(llm: Any, sampling: Any) -> None:
    tell("ready")
    for line in sys.stdin:
        output = llm.generate({"prompt_token_ids": json.loads(line)}, sampling, use_tqdm=False)[0]
        tell({"token_ids": list(output.outputs[0].token_ids), "num_cached_tokens": output.num_cached_tokens})


def tell(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
