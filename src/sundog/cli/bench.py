"""`sundog bench`: run the benchmark of a clone. The benchmark itself is in benchmarks/halo, not in the package."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import typer

from sundog.errors import ConfigError


def bench(context: typer.Context) -> None:
    """Run the benchmark of a clone.

    `sundog bench --help` lists its options.
    """
    folder = _find()
    sys.path.insert(0, str(folder))
    command = importlib.import_module("halo.command")
    command.app(context.args, prog_name="sundog bench", standalone_mode=False)


def _find() -> Path:
    """Return the clone's folder of benchmarks: where this package lies, else the working directory."""
    for root in (Path(__file__).parents[3], Path.cwd()):
        if (root / "benchmarks" / "halo" / "command.py").is_file():
            return root / "benchmarks"
    raise ConfigError(
        "the benchmark is not part of the installed package",
        hint="clone sundog's repository, run pip install -e '.[bench]' there, and then sundog bench in that folder",
    )
