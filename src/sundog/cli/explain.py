"""`sundog explain`: the plans of a flow and what they take, as text, JSON or a page. Only --analyze runs anything."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sundog.cli.on_ray import Cells, On
from sundog.cli.options import (
    Debug,
    FlowArgument,
    Inputs,
    Limit,
    MaxRows,
    Naive,
    NoRule,
    ObjectiveOption,
    PlacementOption,
    Policy,
    Sample,
    Seed,
    State,
    Via,
    planned_session,
)
from sundog.cli.run import execute, files_of
from sundog.cli.terminal.console import print_result
from sundog.config import read_config
from sundog.errors import ConfigError

if TYPE_CHECKING:
    from sundog.explanation.explanation import Explanation
    from sundog.present.document import PlanDocument
    from sundog.runtime.run_options import RunOptions
    from sundog.session.session import Session


class ExplainFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    HTML = "html"


ExplainFormatOption = Annotated[
    ExplainFormat, typer.Option("--format", help="How to print it; html is one page for a browser.")
]
Analyze = Annotated[bool, typer.Option("--analyze", help="Run the flow and print what it did beside the estimate.")]
AnalyzedOutputs = Annotated[
    list[str],
    typer.Option(metavar="[TABLE=]PATH", help="With --analyze: result file, as of `run`.", show_default=False),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="With --analyze: begin anew and use no earlier result.")]


def explain(
    context: typer.Context,
    flow: FlowArgument,
    inputs: Inputs = [],  # noqa: B006 - typer reads the default, nobody changes it
    analyze: Analyze = False,
    output: AnalyzedOutputs = [],  # noqa: B006 - as inputs
    fresh: Fresh = False,
    form: ExplainFormatOption = ExplainFormat.TEXT,
    on: On = None,
    cells: Cells = None,
    limit: Limit = None,
    sample: Sample = None,
    seed: Seed = 0,
    state: State = None,
    policy: Policy = None,
    max_rows_in_flight: MaxRows = None,
    no_rule: NoRule = [],  # noqa: B006 - as inputs
    naive: Naive = False,
    objective: ObjectiveOption = None,
    placement: PlacementOption = "auto",
    via: Via = None,
    debug: Debug = False,
) -> None:
    """Print the plans of a flow and their cost.

    Reads the inputs and runs no step, but for --analyze. With --on it connects to no cluster.
    """
    from sundog.explanation.explanation import Explanation

    if not analyze and (output or fresh):
        raise ConfigError("--output and --fresh say how to run the flow", hint="add --analyze, or leave them away")
    if analyze and on is not None:
        raise ConfigError("--analyze runs the flow in this process", hint="leave --on away, or --analyze")
    config = read_config(state)
    machines = None
    if on is not None or cells is not None:
        from sundog.session.machines import machines_asked  # what few ask for

        machines = machines_asked(on, cells, state)
    session = planned_session(context, config)
    explanation = Explanation(session)
    document, run_id = explanation.document(machines), None
    if analyze:
        from sundog.runtime.run_options import RunOptions

        files = files_of(session.flow.written, output)[0]
        document, run_id = _analyze(session, explanation, document, RunOptions(config.state_dir, files, fresh))
    print_result(explanation.shown(document, form.value, run_id))


def _analyze(
    session: Session, explanation: Explanation, document: PlanDocument, options: RunOptions
) -> tuple[PlanDocument, str]:
    """Return the document with what a run did, and the run's id; the run says on stderr how it goes."""
    with session.open_run(options) as opened:
        is_whole = opened.is_new
        report = execute(session, opened)
        if isinstance(report, int):
            raise typer.Exit(report)
        analyzed = explanation.analyzed(document, report, opened.row_counts(), is_whole=is_whole)
        return analyzed, opened.record.run_id
