"""A run on a Ray cluster: the only room that imports ray.

    answers = sundog.ray.map(dataset, "flow.yaml", output="s3://bucket/answers/", state="s3://bucket/sundog")

Owns the public name, which is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sundog.ray.datasets import map_dataset as map

__all__ = ["map"]


def __getattr__(name: str) -> Any:
    if name == "map":
        return import_module("sundog.ray.datasets").map_dataset
    raise AttributeError(f"module 'sundog.ray' has no attribute '{name}'")
