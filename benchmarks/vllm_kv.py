"""A prefix that another replica has computed: how long to its first token, loaded and computed anew?

Engines in processes of their own, one request at a time, all on this machine's cores: `stock` is vLLM without the
connector, `writer` and `reader` share blocks through a folder. Each repetition, on fresh text: every engine computes a
prompt of its own, then `reader` answers the prompt that `writer` computed, and again from its own cache. `writer`
writes inside the engine's step, `reader` in a thread: what saving costs is measured by the way.

Needs SUNDOG_VLLM_PYTHON (`make vllm`) and SUNDOG_VLLM_MODEL, a folder that vLLM loads.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Executor, Future
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from machine import save

ROOT = Path(__file__).resolve().parents[1]
QUESTION_TOKENS = 24
OUTPUT_TOKENS = 16
BLOCK_TOKENS = 32
MAX_BYTES = 2_000_000_000
ARMS = ("stock_computes", "inline_computes", "thread_computes", "loads", "has_it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--prefix-tokens", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve(*arguments.serve)
        return
    with tempfile.TemporaryDirectory(prefix="sundog-kv-", dir=arguments.folder) as folder:
        result = measure(Path(folder), arguments.repetitions, arguments.prefix_tokens, random.Random(arguments.seed))
    name = "vllm_kv" if arguments.prefix_tokens == 2048 else f"vllm_kv_{arguments.prefix_tokens}"
    save(name, {"seed": arguments.seed, **result})


def measure(folder: Path, num_repetitions: int, num_prefix_tokens: int, chance: random.Random) -> dict[str, Any]:
    engines = [Engine("stock", folder), Engine("inline", folder), Engine("thread", folder)]
    stock, writer, reader = engines
    try:
        settings = reader.settings
        pairs = [repetition(stock, writer, reader, num_prefix_tokens, chance) for _ in range(num_repetitions + 1)]
    finally:
        for engine in engines:
            engine.stop()
    # The first of all is the warm-up.
    measured = pairs[1:]
    ttft_s = {arm: median(pair[arm]["ttft_s"] for pair in measured) for arm in ARMS}
    return {
        "settings": {**settings, "prefix_tokens": num_prefix_tokens, "question_tokens": QUESTION_TOKENS},
        "num_repetitions": num_repetitions,
        "ttft_s": {arm: round(seconds, 4) for arm, seconds in ttft_s.items()},
        "ratio_to_stock": ratio(measured, "stock_computes", "loads"),
        "ratio_to_own_compute": ratio(measured, "thread_computes", "loads"),
        "save_in_step_s": {arm: round(median(pair[arm]["save_s"] for pair in measured), 4) for arm in ARMS[1:3]},
        "cached_tokens": sorted({pair["loads"]["num_cached_tokens"] for pair in measured}),
        "num_answers": len(pairs),
        "num_equal_to_writer": sum(pair["equals_writer"] for pair in pairs),
        "num_equal_to_stock": sum(pair["equals_stock"] for pair in pairs),
        "all_ttft_s": {arm: [round(pair[arm]["ttft_s"], 4) for pair in measured] for arm in ARMS},
    }


def repetition(
    stock: Engine, writer: Engine, reader: Engine, num_prefix_tokens: int, chance: random.Random
) -> dict[str, Any]:
    def fresh() -> dict[str, int]:
        return {"place": chance.randrange(10**9), "prefix_tokens": num_prefix_tokens}

    shared = fresh()
    answers = {
        "stock_computes": stock.ask(fresh()),
        "inline_computes": writer.ask(shared),
        "thread_computes": reader.ask(fresh()),
        "loads": reader.ask(shared),
        "has_it": reader.ask(shared),
    }
    # An engine that loaded the blocks must say what their writer says. One that computes all anew does it in other
    # chunks, and may round otherwise.
    longer = shared | {"output_tokens": OUTPUT_TOKENS}
    by_stock, by_reader, by_writer = (engine.ask(longer)["token_ids"] for engine in (stock, reader, writer))
    return answers | {"equals_writer": by_reader == by_writer, "equals_stock": by_reader == by_stock}


def ratio(pairs: list[dict[str, Any]], slow: str, fast: str) -> dict[str, float]:
    ratios = [pair[slow]["ttft_s"] / pair[fast]["ttft_s"] for pair in pairs]
    return {"median": round(median(ratios), 2), "least": round(min(ratios), 2), "most": round(max(ratios), 2)}


class Engine:
    """A vLLM engine in a process of its own."""

    def __init__(self, kind: str, folder: Path) -> None:
        python = os.environ.get("SUNDOG_VLLM_PYTHON") or str(ROOT / ".venv-vllm" / "bin" / "python")
        environment = os.environ | {
            "PYTHONPATH": str(ROOT / "src"),
            "OMP_NUM_THREADS": "2",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        }
        self._log = (folder / f"{kind}.log").open("wb")
        self._process = subprocess.Popen(
            [python, __file__, "--serve", kind, str(folder / "blocks")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        # One starts after the other: loading a model takes all cores.
        self._settings = self.tell()

    def tell(self) -> dict[str, Any]:
        """The next line of the engine that is an answer: vLLM prints too."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith('{"sundog"'):
                told: dict[str, Any] = json.loads(line)["sundog"]
                return told
        raise RuntimeError(f"the engine ended: {Path(self._log.name).read_text()[-3000:]}")

    def ask(self, request: dict[str, int]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self.tell()

    @property
    def settings(self) -> dict[str, Any]:
        return self._settings

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._log.close()


def serve(kind: str, folder: str) -> None:
    """The engine's process: requests as JSON lines in, answers out."""
    import vllm
    from vllm import LLM

    save_s = [0.0]
    options: dict[str, Any] = {
        "model": os.environ["SUNDOG_VLLM_MODEL"],
        "dtype": "bfloat16",
        "max_model_len": 4096,
        "block_size": BLOCK_TOKENS,
        "max_num_batched_tokens": 4096,
        "enforce_eager": True,
        "seed": 0,
    }
    sharing = {
        "kv_connector": "SundogKVConnector",
        "kv_connector_module_path": "sundog.vllm_plugin.kv.connector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"folder": folder, "max_bytes": MAX_BYTES},
    }
    if kind != "stock":
        watch_saves(save_s, is_inline=kind == "inline")
    llm = LLM(**options, **({} if kind == "stock" else {"kv_transfer_config": sharing}))
    tokens = llm.get_tokenizer().encode(long_text())
    named = {
        "model": Path(options["model"]).name,
        "vllm": vllm.__version__,
        "num_threads": os.environ["OMP_NUM_THREADS"],
    }
    tell(options | sharing | named)
    for line in sys.stdin:
        request = json.loads(line)
        save_s[0] = 0.0
        tell(answer(llm, tokens, **request) | {"save_s": save_s[0]})


def answer(llm: Any, tokens: list[int], place: int, prefix_tokens: int, output_tokens: int = 1) -> dict[str, Any]:
    from vllm import SamplingParams

    num_tokens = prefix_tokens + QUESTION_TOKENS
    first = place % (len(tokens) - num_tokens)
    sampling = SamplingParams(temperature=0.0, max_tokens=output_tokens, ignore_eos=True)
    started_s = time.perf_counter()
    prompt = {"prompt_token_ids": tokens[first : first + num_tokens]}
    output = llm.generate(prompt, sampling, use_tqdm=False)[0]
    return {
        "ttft_s": time.perf_counter() - started_s,
        "token_ids": list(output.outputs[0].token_ids),
        "num_cached_tokens": output.num_cached_tokens,
    }


def watch_saves(save_s: list[float], *, is_inline: bool) -> None:
    """Time what saving takes of the engine's steps; `is_inline`: the whole of it happens there."""
    from sundog.vllm_plugin.kv import connector as kv_connector
    from sundog.vllm_plugin.kv.plan import KVTransfers
    from sundog.vllm_plugin.kv.worker import KVWorker

    class Timed(KVWorker):
        def save(self, step: KVTransfers) -> None:
            started_s = time.perf_counter()
            super().save(step)
            save_s[0] += time.perf_counter() - started_s

    mock.patch.object(kv_connector, "KVWorker", Timed).start()
    if is_inline:
        mock.patch.object(kv_connector, "ThreadPoolExecutor", Inline).start()


class Inline(Executor):
    """Does everything at once, where it is asked to."""

    def __init__(self, max_workers: int, name: str) -> None:
        pass

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def long_text() -> str:
    """English prose that every Python has: the topics of its help."""
    from pydoc_data.topics import topics

    return "\n\n".join(text for _, text in sorted(topics.items()))


def tell(value: dict[str, Any]) -> None:
    print(json.dumps({"sundog": value}), flush=True)


if __name__ == "__main__":
    main()
