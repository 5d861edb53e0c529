"""The `sundog` command: its subcommands, and how an error becomes an exit code.

Owns exit codes: 2 for the user's input, 1 for a failure at run time, 3 where a person has to answer first, 128 + signal
after an interruption.
"""

from __future__ import annotations

import gc
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sundog.cli.on_demand import Declared, OnDemand
from sundog.cli.options import DEBUG
from sundog.cli.terminal.console import open_closed_streams, print_error, print_result, show_what_can_be_shown
from sundog.config import environment_secrets

# Its own command line reads the options, --help too.
PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
COMMANDS = OnDemand(
    {
        "init": Declared("sundog.cli.init", "Example: sundog init demo --kind classify"),
        "run": Declared("sundog.cli.run", "Example: sundog run flow.yaml --output answers.jsonl"),
        "explain": Declared("sundog.cli.explain", "Example: sundog explain flow.yaml --limit 100"),
        "simulate": Declared("sundog.cli.simulate", "Example: sundog simulate flow.yaml --replicas local=4"),
        "show": Declared("sundog.cli.show", "Example: sundog show last --format csv"),
        "answer": Declared("sundog.cli.answer", "Example: sundog answer last --row 17 --text yes"),
        "runs": Declared("sundog.cli.runs", "Example: sundog runs"),
        "trace": Declared("sundog.cli.trace", "Example: sundog trace last --output run.trace.json"),
        "calibrate": Declared("sundog.cli.calibrate", "Example: sundog calibrate flow.yaml --engine local"),
        "bench": Declared("sundog.cli.bench", "Example: sundog bench --quick", PASSED_ON),
        "serve": Declared("sundog.cli.live.serve", "Example: sundog serve flow.yaml"),
        "import": Declared("sundog.cli.import_flow", attribute="import_flow"),
        "engine": Declared("sundog.cli.groups.engine"),
        "keys": Declared("sundog.cli.groups.keys"),
        "model": Declared("sundog.cli.groups.model"),
    }
)


class _Commands(TyperGroup):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "commands": COMMANDS})

    def invoke(self, ctx: Any) -> Any:
        """Run a command; every error ends here, in words."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if type(error).__module__.partition(".")[0] == "typer":
                raise
            code = print_error(error, environment_secrets().redact, is_debug=bool(ctx.meta.get(DEBUG)))
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
    """Take the options before the command."""


def entry() -> None:
    """Run the command line as the console script."""
    # Imports are no garbage: looking for some in them took a twentieth of the time of a short command.
    gc.set_threshold(100_000, 50, 100)
    open_closed_streams()
    show_what_can_be_shown()
    app(prog_name="sundog")
