"""`sundog model`: the weights of the embedded engine."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sundog.cli.console import print_note, print_result
from sundog.cli.options import Debug
from sundog.errors import ConfigError

model = typer.Typer(no_args_is_help=True, help="Pull, list and find the weights of embedded models.")
Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


@model.command()
def pull(name: Name, debug: Debug = False) -> None:
    """Download weights into the cache, checked against their checksum; does nothing when they are there."""
    from sundog.engines.models import cache_folder
    from sundog.engines.models import pull as pull_weights

    def show(num_done: int, num_bytes: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{name}: {num_done / num_bytes:.0%}" + ("\n" if num_done == num_bytes else ""))
            sys.stderr.flush()

    print_note(f"{name}: looking for the weights, downloading them where they are missing")
    print_result(str(pull_weights(name, cache_folder(), show)))


@model.command("list")
def list_models(debug: Debug = False) -> None:
    """The models that have a name, and where their weights are."""
    from sundog.engines.models import CATALOG, cache_folder, resolve

    for name, known in CATALOG.items():
        try:
            where = str(resolve(name, cache_folder()))
        except ConfigError:
            where = f"not pulled ({known.num_bytes / 1e6:.0f} MB)"
        print_result(f"{name}  {where}")


@model.command()
def path(name: Name, debug: Debug = False) -> None:
    """Where the weights of a model are."""
    from sundog.engines.models import cache_folder, resolve

    print_result(str(resolve(name, cache_folder())))
