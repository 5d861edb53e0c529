"""`sundog model`: the weights of the embedded engine."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sundog.cli.options import Debug
from sundog.cli.terminal.completion import models
from sundog.cli.terminal.console import print_note, print_result
from sundog.errors import ConfigError

model = typer.Typer(
    no_args_is_help=True,
    help="Pull, list and find the weights of embedded models.",
    epilog="Example: sundog model pull smollm2-135m",
)
Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="As `list` shows it.", show_default=False, autocompletion=models),
]


@model.command(epilog="Example: sundog model pull smollm2-135m")
def pull(name: Name, debug: Debug = False) -> None:
    """Download weights into the cache.

    They are checked against their checksum. Nothing is done where they are there already.
    """
    from sundog.engines.embedded.models import cache_folder
    from sundog.engines.embedded.models import pull_model as pull_weights

    def show(num_done: int, num_bytes: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{name}: {num_done / num_bytes:.0%}" + ("\n" if num_done == num_bytes else ""))
            sys.stderr.flush()

    print_note(f"{name}: looking for the weights, downloading them where they are missing")
    print_result(str(pull_weights(name, cache_folder(), show)))


@model.command("list", epilog="Example: sundog model list")
def list_models(debug: Debug = False) -> None:
    """List the models that have a name.

    Each with the place of its weights, or the size of their download.
    """
    from sundog.engines.embedded.models import CATALOG, cache_folder, resolve_model

    for name, known in CATALOG.items():
        try:
            where = str(resolve_model(name, cache_folder()))
        except ConfigError:
            where = f"not pulled ({known.num_bytes / 1e6:.0f} MB)"
        print_result(f"{name}  {where}")


@model.command(epilog="Example: sundog model path smollm2-135m")
def path(name: Name, debug: Debug = False) -> None:
    """Print where the weights of a model are."""
    from sundog.engines.embedded.models import cache_folder, resolve_model

    print_result(str(resolve_model(name, cache_folder())))
