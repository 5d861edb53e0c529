"""Options that several commands share, each said once.

Owns their names and help, and what those of a plan come to. --debug is kept where errors are printed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sundog.cli.terminal import completion
from sundog.config import Config
from sundog.errors import ConfigError

if TYPE_CHECKING:
    from sundog.session.session import Session

DEBUG = "sundog.debug"


def _keep_debug(context: typer.Context, is_asked: bool) -> None:
    context.meta[DEBUG] = is_asked


def parse_inputs(written: list[str]) -> dict[str, str]:
    """Return `name=path` pairs; ConfigError for another form or a name given twice."""
    found: dict[str, str] = {}
    for text in written:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise ConfigError(f"--input {text!r} is not of the form name=path", hint="as in --input questions=q.jsonl")
        if name in found:
            raise ConfigError(f"--input {name}= is given twice", hint="use a glob for several files")
        found[name] = path
    return found


def planned_session(context: typer.Context, config: Config) -> Session:
    """Plan the flow of a command that has the arguments and options of this page from FLOW to --via, by the names
    that they have there."""
    from sundog.runtime.rows.row_choice import RowChoice
    from sundog.session.choices import PlanChoices, Rewriting
    from sundog.session.flow_file import load_plan
    from sundog.session.kept_lists import KeptLists
    from sundog.session.session import plan_session

    given = context.params
    choices = PlanChoices(
        RowChoice(given["limit"], given["sample"], given["seed"]),
        Rewriting(tuple(given["no_rule"]), given["naive"]),
        given["policy"],
        given["max_rows_in_flight"],
        given["objective"],
        given["placement"],
        via=given["via"],
    )
    flow: Path = given["flow"]
    lists = KeptLists(config, is_fresh=bool(given.get("fresh")))
    written = load_plan(flow, parse_inputs(given["inputs"]), lists)
    if given.get("output"):
        from sundog.session.output_names import outputs_named

        choices = replace(choices, outputs=tuple(outputs_named(written, given["output"])))
    return plan_session(written, flow.parent, config, choices, lists)


FlowArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FLOW", help="The flow file (YAML).", show_default=False, autocompletion=completion.flow_files
    ),
]
Outputs = Annotated[
    list[str],
    typer.Option(
        metavar="[TABLE=]PATH",
        help="Result: .csv, .json, .jsonl, .parquet, .duckdb#table; folder/ or s3://bucket/folder/ for parts; - for "
        "JSON lines on stdout. Of a flow with several results: TABLE=PATH, repeated.",
        show_default=False,
    ),
]
RunId = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="The run's id, as `sundog runs` lists it, as much of it as no other begins with, or `last`.",
        show_default=False,
        autocompletion=completion.run_ids,
    ),
]
Inputs = Annotated[
    list[str],
    typer.Option(
        "--input",
        metavar="NAME=PATH",
        help="Read this input from another path. Repeatable.",
        autocompletion=completion.inputs,
    ),
]
State = Annotated[
    str | None,
    typer.Option(
        "--state",
        metavar="FOLDER|URL",
        help="The folder that runs are kept in, or a URL (s3, gs, az, file). [default: $SUNDOG_STATE or .sundog]",
    ),
]
Policy = Annotated[
    str | None,
    typer.Option(help="Scheduling policy set.", show_default=False, autocompletion=completion.policies),
]
MaxRows = Annotated[int | None, typer.Option(min=1, help="Rows worked on at once.", show_default=False)]
NoRule = Annotated[
    list[str],
    typer.Option(
        "--no-rule",
        metavar="NAME",
        help="Go without this rewrite rule. Repeatable.",
        autocompletion=completion.rules,
    ),
]
Naive = Annotated[
    bool, typer.Option("--naive", help="No rewrites: every call is executed, a row's steps one after the other.")
]
ObjectiveOption = Annotated[
    str | None,
    typer.Option(
        "--objective",
        help="What the placement on workers makes small: makespan, mean-completion or cost. [default: the flow's]",
        show_default=False,
        autocompletion=completion.objectives,
    ),
]
PlacementOption = Annotated[
    str,
    typer.Option(
        "--placement",
        help="Who places steps on workers: auto, least, round_robin, operator_wise, min_switch, heft, halo_dp or "
        "partition.",
        autocompletion=completion.placements,
    ),
]
Via = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Ask the models of a `sundog serve`, after its live requests.", show_default=False
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N rows.", show_default=False)]
Sample = Annotated[int | None, typer.Option(min=1, help="Only N rows, chosen at random.", show_default=False)]
Seed = Annotated[int, typer.Option(help="Of --sample.")]
JSON = Annotated[bool, typer.Option("--json", help="For machines: JSON on stdout, JSON lines on stderr.")]
Debug = Annotated[
    bool, typer.Option("--debug", callback=_keep_debug, expose_value=True, help="Show tracebacks.", is_eager=True)
]
