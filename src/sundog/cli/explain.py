"""`sundog explain`: the plans of a flow and what they take, as text. Runs nothing."""

from __future__ import annotations

from sundog.cli.console import print_result
from sundog.cli.options import (
    Debug,
    FlowFile,
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
    parse_inputs,
)
from sundog.config import read_config


def explain(
    flow: FlowFile,
    inputs: Inputs = [],  # noqa: B006 - typer reads the default, nobody changes it
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
    debug: Debug = False,
) -> None:
    """Print the plans of a flow, and what running it will take."""
    from sundog.session import Choice, Rewriting, Session, load_plan

    session = Session(
        load_plan(flow, parse_inputs(inputs)),
        flow.parent,
        read_config(state),
        choice=Choice(limit, sample, seed),
        rewriting=Rewriting(tuple(no_rule), naive),
        policy=policy,
        max_rows_in_flight=max_rows_in_flight,
        objective=objective,
        placement=placement,
    )
    print_result(session.explain())
