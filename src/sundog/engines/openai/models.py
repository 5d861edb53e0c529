"""This module reads in a server's list of models what it says of the model that is asked for.

Owns which answers count as a list, and which names mean one model. Never asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sundog.engines.openai.protocol.json_text import parse_json
from sundog.engines.vllm.metrics import VLLM
from sundog.errors import suggest

MAX_HINT_CHARACTERS = 500
"""Hosted services list hundreds of models."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The entry of one model in a server's list."""

    #: The limit that the list names.
    max_context_tokens: int | None = None
    #: The server is vLLM.
    is_vllm: bool = False
    #: There is a list and it has no such model.
    is_missing: bool = False
    #: A sentence that says what the list has, where the model is missing.
    hint: str | None = None


def read_models(body: bytes, model: str) -> Listed:
    """Return what the list says of `model`. Where there is none, it says nothing; ValueError for what is no JSON."""
    value = parse_json(body)
    listed = value.get("data") if isinstance(value, Mapping) else value
    models = {name: one for one in listed if (name := _name_of(one))} if isinstance(listed, list) else {}
    is_vllm = any(one.get("owned_by") == VLLM for one in models.values())
    found = models.get(model) or next((models[name] for name in models if _plain(name) == _plain(model)), None)
    if found is None:
        return Listed(None, is_vllm, bool(models), suggest(model, models)[:MAX_HINT_CHARACTERS] if models else None)
    length = found.get("max_model_len")
    return Listed(length if isinstance(length, int) and length > 0 else None, is_vllm)


def _name_of(one: Any) -> str | None:
    name = one.get("id") or one.get("name") if isinstance(one, Mapping) else None
    return name if isinstance(name, str) else None


def _plain(name: str) -> str:
    """Return the plain name of a model: servers list `models/m` and `m:latest`, and take `m`."""
    return name.removeprefix("models/").removesuffix(":latest")
