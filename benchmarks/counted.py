"""`sundog` with an engine kind `counted`: the null engine, which adds a byte to the file $COUNTED for each answer.

A process that is killed keeps what it has counted: an account that sundog cannot embellish.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import cast

from sundog.cli.main import entry
from sundog.engines.base import ENGINES, Chunk, EngineKind, GenerateRequest
from sundog.engines.modelled.null import NullEngine, NullKind, NullOptions
from sundog.secrets import Secrets

VARIABLE = "COUNTED"


class CountedEngine(NullEngine):
    def __init__(self, options: NullOptions) -> None:
        super().__init__(options)
        self._file = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        os.write(self._file, b".")
        async for chunk in super().generate(request):
            yield chunk


class CountedKind(NullKind):
    def open(self, options: NullOptions, replica: int, secrets: Secrets) -> CountedEngine:
        return CountedEngine(options)


def command(*arguments: str | Path) -> list[str]:
    """The command line of a sundog that knows the kind; its environment names the file."""
    return [sys.executable, __file__, *map(str, arguments)]


if __name__ == "__main__":
    ENGINES.add("counted", cast(type[EngineKind], CountedKind))
    entry()
