"""`sundog run --on ray`: its options, and what they come to: work of a cluster, or a job that is submitted.

Owns the words of the command that a job is. Never plans, never runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sundog.cli.options import parse_inputs
from sundog.cli.terminal.console import print_result
from sundog.config import Config, chosen_state, environment_secrets
from sundog.errors import ConfigError

if TYPE_CHECKING:
    from sundog.runtime.row_work import OpenWork


class RunPlace(StrEnum):
    RAY = "ray"


On = Annotated[
    RunPlace | None,
    typer.Option("--on", help="Who works on the rows: ray, a Ray cluster. [default: this process]", show_default=False),
]
ClusterAddress = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="With --on: the cluster, HOST:PORT on one of its nodes; http://HOST:8265 submits the run as a job. "
        "[default: $RAY_ADDRESS, or the Ray of this machine]",
        show_default=False,
    ),
]
Cells = Annotated[
    int | None,
    typer.Option(min=1, help="With --on: processes that work on rows. [default: by nodes and engines]"),
]
FinishIn = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="With --on: grow pools of engines until it ends so soon, as 2h.", show_default=False
    ),
]
Shared = Annotated[
    list[str],
    typer.Option(
        metavar="FOLDER", help="With --on and a job: all machines have this folder. Repeatable.", show_default=False
    ),
]
_ONLY_ON_RAY = {"address": "--address", "cells": "--cells", "finish_in": "--finish-in", "shared": "--shared"}
_LEFT_OUT = {"flow", "inputs", "output", "state", "address", "shared"}
"""The parameters that a job has in another form, or not at all."""


@dataclass(frozen=True, slots=True)
class RayPlace:
    """The cluster that a command names, and how much of it."""

    address: str | None
    cells: int | None
    finish_in: str | None
    shared: tuple[str, ...]


def ray_place(context: typer.Context) -> RayPlace | None:
    """Return the cluster that a command names, None for this process. ConfigError for options of a cluster without
    --on."""
    given = context.params
    if given["on"] is None:
        for name, option in _ONLY_ON_RAY.items():
            if given[name]:
                raise ConfigError(f"{option} is of a run on a cluster", hint=f"say --on ray, or leave {option} away")
        return None
    from sundog.ray.connection import chosen_address

    return RayPlace(chosen_address(given["address"]), given["cells"], given["finish_in"], tuple(given["shared"]))


def submitted(context: typer.Context, place: RayPlace | None) -> int | None:
    """Submit the run of a command whose address is that of a job server, and follow it: the exit code. None for every
    other one."""
    if place is None:
        return None
    from sundog.ray.connection import takes_jobs
    from sundog.ray.jobs.secret_values import take_values

    state = chosen_state(context.params["state"])
    if not takes_jobs(place.address):
        take_values(state)
        return None
    from sundog.ray.jobs.paths import check_places
    from sundog.ray.jobs.submission import JobRequest, run_as_job
    from sundog.session.flow_file import load_plan
    from sundog.session.output_names import outputs_named

    assert place.address is not None, "it takes jobs"
    flow: Path = context.params["flow"]
    plan = load_plan(flow, parse_inputs(context.params["inputs"]))
    outputs = outputs_named(plan, context.params["output"])
    check_places(plan, flow.parent, outputs, state, [Path(one) for one in place.shared])
    words = ["run", flow.name, "--state", state, *_words(context, flow.parent)]
    named = environment_secrets().set_in(flow.read_text(encoding="utf-8"))
    return run_as_job(JobRequest(place.address, flow.parent, words, state, named), print_result)


@contextmanager
def working_means(place: RayPlace | None, config: Config, flow: Path) -> Iterator[OpenWork | None]:
    """Yield the means by which a cluster works on rows; None for this process."""
    if place is None:
        yield None
        return
    from sundog.ray.on_ray import work_on_ray
    from sundog.ray.options import RayOptions
    from sundog.whatif.duration import read_duration

    finish_in_s = None if place.finish_in is None else read_duration("--finish-in", place.finish_in)
    with work_on_ray(RayOptions(place.address, place.cells, finish_in_s), config.state_dir, flow.parent) as means:
        yield means


def _words(context: typer.Context, folder: Path) -> Iterator[str]:
    """Yield the options of the command that were written, as they mean the same in the flow's folder elsewhere."""
    for name, path in parse_inputs(context.params["inputs"]).items():
        yield from ("--input", f"{name}={_from(folder, path)}")
    for written in context.params["output"]:
        yield from ("--output", written)
    for parameter in context.command.params:
        name = str(parameter.name)
        value: Any = context.params.get(name)
        source = context.get_parameter_source(name)
        if name in _LEFT_OUT or source is None or source.name != "COMMANDLINE":
            continue
        option = parameter.opts[0]
        if value is True:
            yield option
        else:
            for one in value if isinstance(value, list | tuple) else [value]:
                yield from (option, str(one))


def _from(folder: Path, path: str) -> str:
    """Return a path as it is counted from a folder, where it lies in that; another one stays as it is."""
    absolute = Path(path).absolute()
    return str(absolute.relative_to(folder.absolute())) if absolute.is_relative_to(folder.absolute()) else path
