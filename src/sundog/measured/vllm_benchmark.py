"""Results of `vllm bench serve --save-result` (or --append-result), as measurements of batches.

Owns what can be taken from their fields, which vLLM writes in `vllm/benchmarks/serve.py`. Never runs a benchmark.

A server that is kept at `max_concurrency` requests runs the same batch again and again: a batch takes
`duration * max_concurrency / completed`. Times to the first token and between tokens hold waiting and other requests'
prompts, so they are used where one request ran alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sundog.errors import ConfigError
from sundog.measured.measurement_file import Count, Measurements, Positive, Source, read_measurements

HOW = "vllm bench serve --dataset-name random --request-rate inf --max-concurrency N --ignore-eos --save-result"


class ServeResult(BaseModel):
    """The fields of a result that are used; the others are the reader's."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    duration: Positive
    completed: Count
    #: Absent in results of older versions.
    failed: int = 0
    total_input_tokens: Count
    total_output_tokens: Count
    request_rate: Literal["inf"]
    max_concurrency: Count
    mean_ttft_ms: Positive | None = None
    mean_tpot_ms: Positive | None = None
    model_id: str = ""
    #: Given with --metadata, as is `gpu`.
    max_num_batched_tokens: int | None = None
    gpu: str = ""

    def table(self, source: str) -> dict[str, Any]:
        """Return the batch that ran again and again, with the times of a single request where it was one."""
        number = min(self.max_concurrency, self.completed)
        columns = ["num_requests", "prompt_tokens", "output_tokens", "latency_s"]
        row = [number, self.total_input_tokens / self.completed, self.total_output_tokens / self.completed]
        row.append(self.duration * number / self.completed)
        if number == 1 and self.mean_ttft_ms and self.mean_tpot_ms:
            columns += ["ttft_ms", "tpot_ms"]
            row += [self.mean_ttft_ms, self.mean_tpot_ms]
        return {"columns": columns, "rows": [row], "from": source}


def is_serve_result(content: object) -> bool:
    """Return whether this is a result of `vllm bench serve`, usable or not."""
    return isinstance(content, Mapping) and "total_input_tokens" in content and "duration" in content


def is_throughput_result(content: object) -> bool:
    """Return whether this is a result of `vllm bench throughput` or `latency`, which do not tell what ran together."""
    return isinstance(content, Mapping) and ("tokens_per_second" in content or "avg_latency" in content)


def read_results(path: Path) -> list[object]:
    """Return the JSON values of a file: one, or one a line as --append-result writes; empty where it is no JSON."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    for pieces in ([text], text.splitlines()):
        try:
            return [json.loads(piece) for piece in pieces if piece.strip()]
        except ValueError:
            continue
    return []


def measurements_of(results: Sequence[tuple[str, object]], max_step_tokens: int | None) -> Measurements:
    """Return the measurements of serve results, each with where it stands. `max_step_tokens`: None takes that of the
    results' metadata. ConfigError for a result that does not tell what ran together, or failed in part."""
    read = [(where, _checked(where, content)) for where, content in results]
    told = {one.max_num_batched_tokens for _, one in read if one.max_num_batched_tokens}
    if max_step_tokens is None and len(told) != 1:
        raise ConfigError(
            "the results do not say how many tokens the server computes in one step",
            where=read[0][0],
            hint="add --max-step-tokens N: the server's --max-num-batched-tokens",
        )
    models = {one.model_id for _, one in read}
    if len(models) > 1:
        raise ConfigError(
            f"the results are of several models: {', '.join(sorted(models))}", hint="one profile, one model"
        )
    content: dict[str, Any] = {
        "model": models.pop(),
        "gpu": next((one.gpu for _, one in read if one.gpu), "not said; add --metadata gpu=NAME"),
        "engine": "vLLM",
        "source": Source(title="own measurements with vllm bench serve"),
        "max_step_tokens": max_step_tokens or told.pop(),
        "measurements": [one.table(where) for where, one in read],
    }
    return read_measurements(content, read[0][0])


def _checked(where: str, content: object) -> ServeResult:
    try:
        result = ServeResult.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(
            f"the result cannot be used: {first['loc'][0]}: {first['msg']}",
            where=where,
            hint=f"measure with {HOW}",
        ) from error
    if result.failed:
        raise ConfigError(f"{result.failed} requests of the benchmark failed", where=where, hint=f"repeat it: {HOW}")
    return result
