"""Secrets: `${env:NAME}` stays as it is in plans, keys, logs and stores; its value appears only at the call.

Owns reveal and redact. Never writes a value anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sundog.errors import ConfigError

PATTERN = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
MIN_LENGTH = 6


def has_secret(text: str) -> bool:
    return PATTERN.search(text) is not None


class Secrets:
    """The values of the environment variables that a flow names."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._revealed: dict[str, str] = {}

    def reveal(self, text: str) -> str:
        """`text` with every `${env:NAME}` replaced by its value; ConfigError when unset or too short to redact."""
        return PATTERN.sub(lambda match: self._value(match.group(1)), text)

    def reveal_all(self, value: Any) -> Any:
        """The same, in every string of nested mappings and lists."""
        return self._map(value, self.reveal)

    def redact(self, text: str) -> str:
        """`text` with every value revealed so far replaced by its `${env:NAME}`."""
        for name, value in self._revealed.items():
            if value in text:
                text = text.replace(value, f"${{env:{name}}}")
        return text

    def redact_all(self, value: Any) -> Any:
        return self._map(value, self.redact) if self._revealed else value

    def _value(self, name: str) -> str:
        value = self._environment.get(name)
        if value is None:
            raise ConfigError(f"the environment variable {name} is not set", hint=f"export {name}=... and run again")
        if len(value) < MIN_LENGTH:
            raise ConfigError(
                f"the value of {name} is too short to be kept out of logs ({len(value)} characters)",
                hint=f"secrets have at least {MIN_LENGTH} characters; write other settings as constants",
            )
        self._revealed[name] = value
        return value

    def _map(self, value: Any, change: Callable[[str], str]) -> Any:
        match value:
            case str():
                return change(value)
            case Mapping():
                return {self._map(key, change): self._map(item, change) for key, item in value.items()}
            case list() | tuple():
                return type(value)(self._map(item, change) for item in value)
        return value
