"""The `sundog` command: its subcommands, and how an error becomes an exit code.

Owns exit codes: 2 for the user's input, 1 for a failure at run time, 128 + signal after an interruption.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sundog.cli.bench import bench
from sundog.cli.calibrate import calibrate
from sundog.cli.console import print_error, print_result
from sundog.cli.engine import engine
from sundog.cli.explain import explain
from sundog.cli.model import model
from sundog.cli.options import DEBUG
from sundog.cli.run import run
from sundog.cli.runs import runs
from sundog.cli.trace import trace
from sundog.config import read_config


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run a command; every error ends here, in words."""
        ctx.obj = read_config()
        try:
            return super().invoke(ctx)
        except Exception as error:
            if type(error).__module__.partition(".")[0] == "typer":
                raise
            code = print_error(error, ctx.obj.secrets.redact, is_debug=bool(ctx.meta.get(DEBUG)))
            raise typer.Exit(code) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Run batches of agentic LLM workflows the way a database runs queries.",
)
app.command("run")(run)
app.command("explain")(explain)
app.command("calibrate")(calibrate)
app.command("runs")(runs)
app.command("trace")(trace)
# Its own command line reads the options, --help too.
passed_on = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
app.command("bench", context_settings=passed_on)(bench)
app.add_typer(engine, name="engine")
app.add_typer(model, name="model")


def _version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        print_result(f"sundog {version('sundog')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Options before the command."""


def entry() -> None:
    """The console script."""
    app(prog_name="sundog")
