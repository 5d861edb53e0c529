"""`sundog simulate`: what if the flow had other machines, another policy, or a failure. Runs nothing."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
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
from sundog.cli.terminal.console import print_result
from sundog.config import read_config
from sundog.errors import ConfigError

if TYPE_CHECKING:
    from sundog.present.simulation import SimulationDocument
    from sundog.whatif.study import Study
    from sundog.whatif.variant import Variant


class SimulateFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    HTML = "html"


Form = Annotated[SimulateFormat, typer.Option("--format", help="How to print it; html is one page for a browser.")]
NumRows = Annotated[int | None, typer.Option("--rows", min=1, help="Simulate so many rows. [default: all]")]
Replicas = Annotated[
    list[str], typer.Option("--replicas", metavar="ENGINE=N", help="Give an engine N replicas. Repeatable.")
]
Workers = Annotated[list[str], typer.Option("--workers", metavar="GROUP=N", help="Give a group N workers. Repeatable.")]
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
    ),
]
SplitPhases = Annotated[
    list[str],
    typer.Option(
        "--split-phases",
        metavar="ENGINE=P+D:RATE",
        help="Compute prompts on P replicas and decode on D, with KV moved at 50GB/s, say. Repeatable.",
    ),
]
EngineProfile = Annotated[
    list[str],
    typer.Option(
        "--engine-profile",
        metavar="[ENGINE=]NAME",
        help="Simulate an engine, or all, as the machine of a profile: a name or a file. Repeatable.",
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
    typer.Option("--log", metavar="RUN", help="Simulate what this run did, call by call.", show_default=False),
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
    from sundog.runtime.kept_runs import event_logs, run_id_of
    from sundog.session.choices import PlanChoices
    from sundog.session.flow_file import load_plan
    from sundog.whatif.autoscale import read_scaling
    from sundog.whatif.offered import OfferedLoad
    from sundog.whatif.split import read_splits
    from sundog.whatif.study import Study
    from sundog.whatif.variant import Variant, read_counts, read_profile_names

    _check_together(compare=bool(compare), deadline=deadline is not None, arrivals=bool(arrivals), log=log is not None)
    plan = load_plan(flow, parse_inputs(inputs))
    config = read_config(state)
    choices = PlanChoices(objective=objective, placement=placement)
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
    logs = () if log is None else tuple(event_logs(config.state_dir, run_id_of(config.state_dir, log)))
    study = Study(plan, Path(flow).parent, config, choices, OfferedLoad(arrivals, logs))
    print_result(_shown(_document(study, base, compare, deadline), form))


def _check_together(*, compare: bool, deadline: bool, arrivals: bool, log: bool) -> None:
    """Raise a ConfigError for options that do not go together."""
    if deadline and compare:
        raise ConfigError("--deadline looks for one answer", hint="leave --compare away, or --deadline")
    if deadline and (arrivals or log):
        raise ConfigError("--deadline is of a batch", hint="leave --arrivals and --log away, or --deadline")
    if arrivals and log:
        raise ConfigError("--log has arrivals of its own", hint="leave --arrivals away, or --log")


def _document(study: Study, base: Variant, compare: list[str], deadline: str | None) -> SimulationDocument:
    from sundog.whatif.deadline import fewest_machines
    from sundog.whatif.document import simulation_document
    from sundog.whatif.duration import read_duration
    from sundog.whatif.variant import read_variant

    if deadline is not None:
        deadline_s = read_duration("--deadline", deadline)
        return simulation_document(fewest_machines(study, base, deadline_s), deadline_s)
    variants = [base, *(read_variant(line, base) for line in compare)]
    return simulation_document([study.outcome(one) for one in variants])


def _shown(document: SimulationDocument, form: SimulateFormat) -> str:
    if form is SimulateFormat.JSON:
        return json.dumps(document.to_dict())
    if form is SimulateFormat.HTML:
        from sundog.present.simulation_html import simulation_html

        return simulation_html(document)
    from sundog.present.simulation_text import simulation_text

    return simulation_text(document)
