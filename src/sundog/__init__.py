"""sundog: batches of agentic LLM workflows, run the way a database runs queries.

    import sundog as sd

    result = sd.run("review.yaml", inputs={"questions": "questions.jsonl"}, output="answers.parquet")

Owns the public names. Each is imported when it is first used, so that `import sundog` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sundog import agents, errors, ray
    from sundog.api import (
        Flow,
        FlowFile,
        Result,
        Row,
        Simulation,
        args,
        explain,
        item,
        load,
        prompt_file,
        row,
        run,
        simulate,
    )
    from sundog.client import FlowClient as Client

__version__: str

__all__ = [
    "Client",
    "Flow",
    "FlowFile",
    "Result",
    "Row",
    "Simulation",
    "__version__",
    "agents",
    "args",
    "errors",
    "explain",
    "item",
    "load",
    "prompt_file",
    "ray",
    "row",
    "run",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name in ("agents", "errors", "ray"):
        return import_module(f"sundog.{name}")
    if name == "Client":
        return import_module("sundog.client").FlowClient
    if name == "__version__":
        return import_module("importlib.metadata").version("sundog")
    if name in __all__:
        return getattr(import_module("sundog.api"), name)
    raise AttributeError(f"module 'sundog' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
