"""The models that a pipeline names, as engines of a flow.

Owns the reading of model names with a provider before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sundog.migrate.written import FreshNames, ImportedFlow, flow_name

DEFAULT_MODEL = "gpt-4o-mini"
OPENAI = "https://api.openai.com/v1"
_LOCAL = {"ollama": "http://localhost:11434/v1", "ollama_chat": "http://localhost:11434/v1"}
_SAMPLING = ("temperature", "max_tokens", "seed", "stop")


class ModelEngines:
    """This class gives each model one engine block."""

    def __init__(self, config: Mapping[str, Any], made: ImportedFlow, names: FreshNames) -> None:
        self._default = str(config.get("default_model") or DEFAULT_MODEL)
        self._base_url = config.get("default_lm_api_base")
        self._made = made
        self._names = names
        self._by_model: dict[str, str] = {}
        made.flow["engines"] = {}

    def of(self, operation: Mapping[str, Any]) -> str:
        """Return the name of the engine of an operation."""
        model = str(operation.get("model") or self._default)
        if model not in self._by_model:
            self._by_model[model] = self._names.give(flow_name(model.rpartition("/")[2]))
            self._made.flow["engines"][self._by_model[model]] = self._block(model)
        return self._by_model[model]

    def _block(self, model: str) -> dict[str, Any]:
        provider, _, name = model.rpartition("/")
        base_url = self._base_url or _LOCAL.get(provider)
        if base_url is None and provider not in ("", "openai"):
            self._made.leave_out(
                f"the provider of '{model}': the engine asks OpenAI's servers; write the base_url of one that speaks "
                "OpenAI's protocol"
            )
        if base_url is None:
            return {"kind": "openai", "model": name, "base_url": OPENAI, "api_key": "${env:OPENAI_API_KEY}"}
        return {"kind": "openai", "model": name, "base_url": str(base_url)}


def sampling_of(operation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of an llm step that an operation gives its model."""
    options = operation.get("litellm_completion_kwargs") or {}
    return {name: options[name] for name in _SAMPLING if name in options}
