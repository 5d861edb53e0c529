"""The options that `--additional-config '{"sundog": {...}}'` may hold.

Owns the keys, their defaults and the message for a wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sundog.errors import ConfigError, suggest

CONFIG_KEY = "sundog"


class PluginOptions(BaseModel):
    """The options of the plugin."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    #: A policy set by name; `vllm_default` decides nothing.
    policy: str = "vllm_default"
    #: Steps of the telemetry that are kept.
    max_steps_kept: int = Field(default=4096, ge=1, le=1_000_000)


def read_plugin_options(additional_config: Any) -> PluginOptions:
    """Return the options in vLLM's additional config, defaults when it has no entry; ConfigError for a wrong one."""
    entry = additional_config.get(CONFIG_KEY, {}) if isinstance(additional_config, Mapping) else {}
    try:
        return PluginOptions.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        is_unknown = first["type"] == "extra_forbidden"
        raise ConfigError(
            f"unknown key '{name}'" if is_unknown else f"{name + ': ' if name else ''}{first['msg']}",
            where=f"--additional-config, under '{CONFIG_KEY}'",
            hint=suggest(name, PluginOptions.model_fields)
            if is_unknown
            else f"keys: {', '.join(PluginOptions.model_fields)}",
        ) from error
