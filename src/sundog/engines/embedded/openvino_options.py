"""The options of the embedded engine, and what they mean to openvino.

Owns both. Never loads anything.

`precision`:
- `fast`: single-precision activations and KV blocks, weights multiplied in 8 bits (dynamic quantization). The answer of
  a greedy request can depend on what else was in the batch and in the prefix cache.
- `batch_invariant`: without dynamic quantization. An answer depends on its request alone, at about half the speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from sundog.engines.base import EngineOptions
from sundog.engines.embedded.openvino_pipeline import KV_BLOCK_TOKENS
from sundog.engines.embedded.vectors.model_folder import Pooling

PROPERTIES: Mapping[str, Mapping[str, str]] = {
    "fast": {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"},
    "batch_invariant": {
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    },
}


class OpenVINOOptions(EngineOptions):
    """The options of `kind: openvino`. `model` is a name that `sundog model pull` knows, a .gguf file, or a folder with
    an OpenVINO model, which answers or gives vectors."""

    shared_device: str | None = Field(default="cpu", min_length=1)
    precision: Literal["fast", "batch_invariant"] = "fast"
    #: Room for the KV blocks of running requests and shared prefixes, in tokens; memory grows to it as it is used (46
    #: KB a token for smollm2-135m).
    max_kv_tokens: int = Field(default=32_768, ge=KV_BLOCK_TOKENS)
    #: Tokens computed in one step; more is faster for long prompts, and lets others wait longer.
    max_num_batched_tokens: int = Field(default=256, ge=KV_BLOCK_TOKENS)
    #: How the vectors of a text's tokens become one, for models that give vectors; None takes what the folder says.
    pooling: Pooling | None = None
    #: Vectors get the length 1; None takes what the folder says.
    normalize: bool | None = None

    @model_validator(mode="after")
    def _tool_form(self) -> Self:
        return self.only_constrained()
