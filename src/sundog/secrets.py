"""Secrets: `${env:NAME}` stays as it is in plans, keys, logs and stores; its value appears only at the call.

Owns reveal and redact. Never writes a value anywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

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
        for spelling, name in self._revealed.items():
            if spelling in text:
                text = text.replace(spelling, f"${{env:{name}}}")
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
        if value not in self._revealed:
            spellings = self._revealed | dict.fromkeys(_spellings(value), name)
            # Longest first: one value may be a part of another.
            self._revealed = dict(sorted(spellings.items(), key=lambda item: len(item[0]), reverse=True))
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


def _spellings(value: str) -> set[str]:
    """`value` as it may come back: as it is, in a URL, in JSON."""
    in_json = (json.dumps(value, ensure_ascii=is_ascii)[1:-1] for is_ascii in (True, False))
    return {value, quote(value), quote(value, safe=""), quote_plus(value), *in_json}
