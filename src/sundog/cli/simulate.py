"""`sundog simulate`: what if the flow had other machines, another policy, or a failure. Runs nothing."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sundog.cli.options import (
    Debug,
    FlowArgument,
    Inputs,
    MaxRows,
    ObjectiveOption,
    PlacementOption,
    Policy,
    State,
    parse_inputs,
)
from sundog.cli.terminal import completion
from sundog.cli.terminal.console import print_result
from sundog.config import read_config

if TYPE_CHECKING:
    from sundog.present.simulation import SimulationDocument


class SimulateFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    HTML = "html"


Form = Annotated[SimulateFormat, typer.Option("--format", help="How to print it; html is one page for a browser.")]
NumRows = Annotated[int | None, typer.Option("--rows", min=1, help="Simulate so many rows. [default: all]")]
Replicas = Annotated[
    list[str],
    typer.Option(
        "--replicas",
        metavar="ENGINE=N",
        help="Give an engine N replicas. Repeatable.",
        autocompletion=completion.engine_counts,
    ),
]
Workers = Annotated[
    list[str],
    typer.Option(
        "--workers",
        metavar="GROUP=N",
        help="Give a group N workers. Repeatable.",
        autocompletion=completion.worker_counts,
    ),
]
Fail = Annotated[
    list[str],
    typer.Option(
        "--fail", metavar="ENGINE#K@Ts", help="Lose replica K after T seconds; with +Us it comes back. Repeatable."
    ),
]
Autoscale = Annotated[
    list[str],
    typer.Option(
        "--autoscale",
        metavar="ENGINE=MIN..MAX:RULE",
        help="Let replicas come and go by queue, or by finish=2h. Repeatable.",
        autocompletion=completion.engine_counts,
    ),
]
SplitPhases = Annotated[
    list[str],
    typer.Option(
        "--split-phases",
        metavar="ENGINE=P+D:RATE",
        help="Compute prompts on P replicas and decode on D, with KV moved at 50GB/s, say. Repeatable.",
        autocompletion=completion.engine_counts,
    ),
]
EngineProfile = Annotated[
    list[str],
    typer.Option(
        "--engine-profile",
        metavar="[ENGINE=]NAME",
        help="Simulate an engine, or all, as the machine of a profile: a name or a file. Repeatable.",
        autocompletion=completion.engine_profiles,
    ),
]
Compare = Annotated[
    list[str],
    typer.Option("--compare", metavar="OPTIONS", help="One variant more, as a line of these options. Repeatable."),
]
Arrivals = Annotated[
    str,
    typer.Option(
        "--arrivals",
        metavar="LOAD",
        help="Rows come over time: poisson:5/s, even:5/s, ramp:0.1/s..9/s:600s or a trace.",
    ),
]
Log = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="RUN",
        help="Simulate what this run did, call by call.",
        show_default=False,
        autocompletion=completion.run_ids,
    ),
]
Deadline = Annotated[
    str | None, typer.Option("--deadline", metavar="2h", help="Find the fewest machines that end in this time.")
]


def simulate(
    flow: FlowArgument,
    inputs: Inputs = [],  # noqa: B006 - typer reads the default, nobody changes it
    rows: NumRows = None,
    replicas: Replicas = [],  # noqa: B006 - as inputs
    workers: Workers = [],  # noqa: B006 - as inputs
    policy: Policy = None,
    max_rows_in_flight: MaxRows = None,
    engine_profile: EngineProfile = [],  # noqa: B006 - as inputs
    fail: Fail = [],  # noqa: B006 - as inputs
    autoscale: Autoscale = [],  # noqa: B006 - as inputs
    split_phases: SplitPhases = [],  # noqa: B006 - as inputs
    compare: Compare = [],  # noqa: B006 - as inputs
    deadline: Deadline = None,
    arrivals: Arrivals = "",
    log: Log = None,
    form: Form = SimulateFormat.TEXT,
    objective: ObjectiveOption = None,
    placement: PlacementOption = "auto",
    state: State = None,
    debug: Debug = False,
) -> None:
    """Simulate a flow with other machines.

    The scheduler of a run decides, over modelled engines and tools; nothing runs.
    """
    from sundog.session.choices import PlanChoices
    from sundog.session.flow_file import load_plan
    from sundog.whatif.autoscale import read_scaling
    from sundog.whatif.duration import read_duration
    from sundog.whatif.question import Question
    from sundog.whatif.split import read_splits
    from sundog.whatif.variant import Variant, read_counts, read_profile_names

    base = Variant(
        num_rows=rows,
        replicas=read_counts("--replicas", replicas),
        workers=read_counts("--workers", workers),
        policy=policy,
        max_rows_in_flight=max_rows_in_flight,
        profiles=read_profile_names(engine_profile),
        failures=tuple(fail),
        autoscale=read_scaling(autoscale),
        splits=read_splits(split_phases),
    )
    deadline_s = None if deadline is None else read_duration("--deadline", deadline)
    question = Question(base, tuple(compare), deadline_s, arrivals, log)
    choices = PlanChoices(objective=objective, placement=placement)
    plan = load_plan(flow, parse_inputs(inputs))
    print_result(_shown(question.answer(plan, flow.parent, read_config(state), choices), form))


def _shown(document: SimulationDocument, form: SimulateFormat) -> str:
    if form is SimulateFormat.JSON:
        return json.dumps(document.to_dict())
    if form is SimulateFormat.HTML:
        from sundog.present.simulation_html import simulation_html

        return simulation_html(document)
    from sundog.present.simulation_text import simulation_text

    return simulation_text(document)
