"""The CPU time that a new set of tools costs the embedded engine before the first token, and each token after it."""

from __future__ import annotations

import json
import resource
import statistics
from typing import Any

from machine import save

from sundog.engines.embedded import models
from sundog.engines.embedded.openvino_options import PROPERTIES
from sundog.engines.embedded.openvino_pipeline import PipelineSettings, Sampling, load_pipeline
from sundog.engines.embedded.step_loop import PipelineJob, StepLoop
from sundog.engines.structured.json_grammar import compact_grammar
from sundog.engines.structured.tool_form import constrained_schema
from sundog.engines.tool_use import ToolSchema

MODEL = "smollm2-135m"
PROMPT = range(1000, 1040)
NUM_TOKENS = 60
MAX_TOKENS = 1024
REPEATS = 3


def main() -> None:
    path = models.resolve_model(MODEL, models.cache_folder())
    steps, _ = load_pipeline(PipelineSettings(path, PROPERTIES["fast"], 8192, 512, 4))
    for _ in range(2):
        answer_cpu_s(steps, None)
    free = [answer_cpu_s(steps, None) for _ in range(REPEATS)]
    rows: list[dict[str, Any]] = [{"tools": None, **figures(free)}]
    for num_tools in (1, 3, 8):
        sets = [tools(num_tools, repeat) for repeat in range(REPEATS)]
        grammars = [compact_grammar(constrained_schema(one, "required", None), MAX_TOKENS) for one in sets]
        rows.append({"tools": num_tools, **figures([answer_cpu_s(steps, grammar) for grammar in grammars])})
    save("grammars", {"model": MODEL, "max_tokens": MAX_TOKENS, "sets": rows})


def tools(number: int, repeat: int) -> list[ToolSchema]:
    """Tools that no earlier grammar had: their names and fields are new."""
    fields = {
        f"path_{repeat}": {"type": "string"},
        "limit": {"type": "integer", "minimum": 1, "maximum": 100},
        "mode": {"enum": ["read", "write"]},
        "where": {"type": "object", "properties": {"city": {"type": "string"}, "latitude": {"type": "number"}}},
        "tags": {"type": "array", "items": {"type": "string"}},
    }
    parameters = json.dumps({"type": "object", "properties": fields})
    return [ToolSchema(f"tool_{repeat}_{number}_{i}", "", parameters) for i in range(number)]


def answer_cpu_s(steps: StepLoop, grammar: str | None) -> list[float]:
    """The CPU seconds of each step of one answer."""
    steps.add(0, PipelineJob(PROMPT, Sampling(NUM_TOKENS, 0.0, 0, grammar), NUM_TOKENS))
    seconds = []
    while steps.has_work():
        begin_s = cpu_s()
        steps.step()
        seconds.append(cpu_s() - begin_s)
    return seconds


def figures(answers: list[list[float]]) -> dict[str, float]:
    return {
        "first_token_cpu_s": round(statistics.median(answer[0] for answer in answers), 3),
        "later_token_cpu_s": round(statistics.median(one for answer in answers for one in answer[1:]), 4),
    }


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
