"""Commands that are imported when they are asked for: a command then starts without what the others need.

Owns where each is found. Never runs one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import typer
from typer.main import get_command


@dataclass(frozen=True, slots=True)
class Declared:
    """This class names a command before it is imported: a function, or a `typer.Typer`, called as the command is."""

    module: str
    #: The option of a function; a Typer has its own.
    epilog: str | None = None
    #: The option of a function; a Typer has its own.
    context_settings: Mapping[str, Any] = field(default_factory=dict)
    #: The name in the module, where that is not the command's.
    attribute: str | None = None

    def load(self, name: str) -> Any:
        """Return the command as click knows it."""
        found = getattr(import_module(self.module), self.attribute or name)
        around = typer.Typer(add_completion=False, rich_markup_mode=None)
        if isinstance(found, typer.Typer):
            around.add_typer(found, name=name)
            groups: Any = get_command(around)
            return groups.commands[name]
        around.command(name, epilog=self.epilog, context_settings=dict(self.context_settings))(found)
        return get_command(around)


class OnDemand(Mapping[str, Any]):
    """This mapping holds the commands by name, in the order in which help lists them."""

    def __init__(self, declared: Mapping[str, Declared]) -> None:
        self._declared = declared
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = self._declared[name].load(name)
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self._declared

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def __len__(self) -> int:
        return len(self._declared)
