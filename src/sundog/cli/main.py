"""The `sundog` command: its subcommands, and how an error becomes an exit code.

Owns exit codes: 2 for the user's input, 1 for a failure at run time, 128 + signal after an interruption.
"""

from __future__ import annotations

import gc
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sundog.cli.bench import bench
from sundog.cli.calibrate import calibrate
from sundog.cli.console import open_closed_streams, print_error, print_result
from sundog.cli.engine import engine
from sundog.cli.explain import explain
from sundog.cli.init import init
from sundog.cli.model import model
from sundog.cli.options import DEBUG
from sundog.cli.run import run
from sundog.cli.runs import runs
from sundog.cli.show import show
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
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run batches of agentic LLM workflows the way a database runs queries.",
    epilog="Begin with: sundog init demo",
)
app.command("init", epilog="Example: sundog init demo --kind classify")(init)
app.command("run", epilog="Example: sundog run flow.yaml --output answers.jsonl")(run)
app.command("explain", epilog="Example: sundog explain flow.yaml --limit 100")(explain)
app.command("show", epilog="Example: sundog show last --format csv")(show)
app.command("runs", epilog="Example: sundog runs")(runs)
app.command("trace", epilog="Example: sundog trace last --output run.trace.json")(trace)
app.command("calibrate", epilog="Example: sundog calibrate flow.yaml --engine local")(calibrate)
app.add_typer(engine, name="engine")
app.add_typer(model, name="model")
# Its own command line reads the options, --help too.
passed_on = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
app.command("bench", context_settings=passed_on, epilog="Example: sundog bench --quick")(bench)


def _version(is_asked: bool) -> None:
    if is_asked:
        import sundog

        print_result(f"sundog {sundog.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


def entry() -> None:
    """The console script."""
    # What is imported is no garbage: looking for some in it took a twentieth of the time of a short command.
    gc.set_threshold(100_000, 50, 100)
    open_closed_streams()
    app(prog_name="sundog")
