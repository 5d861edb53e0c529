"""`sundog import`: flows made of what is written for other tools.

Owns where the flow goes, and that what was not taken over is told.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sundog.cli.options import Debug
from sundog.cli.terminal.console import print_note, print_result
from sundog.errors import ConfigError

if TYPE_CHECKING:
    from sundog.migrate.written import ImportedFlow

import_flow = typer.Typer(
    no_args_is_help=True,
    help="Make a flow of what is written for another tool.",
    epilog="Example: sundog import docetl pipeline.yaml -o flow.yaml",
)
OutputFile = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FLOW", help="The flow file. [default: printed]", show_default=False),
]


@import_flow.command(epilog="Example: sundog import docetl pipeline.yaml -o flow.yaml")
def docetl(
    pipeline: Annotated[Path, typer.Argument(metavar="PIPELINE", help="A pipeline file of DocETL.")],
    output: OutputFile = None,
    debug: Debug = False,
) -> None:
    """Make a flow of a DocETL pipeline.

    What could not be taken over is told, and stands in the flow as comments.
    """
    from sundog.migrate.docetl.pipeline import import_docetl

    _write(import_docetl(pipeline, _folder(output)), output, str(pipeline))


@import_flow.command(epilog="Example: sundog import langgraph agents.triage:graph -o flow.yaml")
def langgraph(
    graph: Annotated[str, typer.Argument(metavar="MODULE:GRAPH", help="A graph in a module, found from here.")],
    output: OutputFile = None,
    debug: Debug = False,
) -> None:
    """Make a flow of a LangGraph graph. Its module is imported.

    What could not be taken over is told, and stands in the flow as comments.
    """
    from sundog.migrate.langgraph.graph import import_langgraph

    _write(import_langgraph(graph), output, graph)


def _folder(output: Path | None) -> Path:
    return Path() if output is None else output.parent


def _write(made: ImportedFlow, output: Path | None, origin: str) -> None:
    if output is not None and output.exists():
        raise ConfigError(f"{output} is there already", hint="name another file")
    text = made.text(_folder(output), origin)
    for remark in made.remarks:
        print_note(remark)
    for what in made.not_taken_over:
        print_note(f"not taken over: {what}")
    if output is None:
        print_result(text.rstrip("\n"))
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    print_result(f"{output}")
