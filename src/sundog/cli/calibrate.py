"""`sundog calibrate`: measure the step time of an engine and keep it as a profile."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sundog.cli.options import JSON, Debug, FlowArgument
from sundog.cli.terminal.completion import engines
from sundog.cli.terminal.console import print_note, print_result
from sundog.config import read_config
from sundog.errors import ConfigError, RunError, suggest

if TYPE_CHECKING:
    from sundog.cost.profile import Profile
    from sundog.cost.step_time import FitError
    from sundog.ir.logical import EngineBlock, LogicalPlan

CalibratedEngine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="An engine of the flow. [default: its only one]",
        show_default=False,
        autocompletion=engines,
    ),
]
MAX_MEAN_ERROR = 0.4
"""The mean error of held-out steps: on a quiet machine it is 0.05 to 0.2, and an estimate that
is off by more helps nobody."""

KeepProfile = Annotated[bool, typer.Option("--keep", help="Keep the profile even if it is off by more than 40 %.")]
Seconds = Annotated[float, typer.Option("--seconds", min=1, help="Repeat the rounds while they fit into this time.")]


def calibrate(
    flow: FlowArgument,
    engine: CalibratedEngine = None,
    seconds: Seconds = 60.0,
    keep: KeepProfile = False,
    as_json: JSON = False,
    debug: Debug = False,
) -> None:
    """Measure an engine's step time for `explain`.

    The engine and the machine should have nothing else to do.
    """
    from sundog.engines.embedded.models import cache_folder
    from sundog.measured.calibrate import calibrate_engine
    from sundog.measured.profiles import save_profile
    from sundog.servers.run_servers import RunServers
    from sundog.servers.servers import Servers
    from sundog.session.flow_file import load_plan

    block = _choose(load_plan(flow, {}), engine)
    print_note(f"{block.name}: measuring {block.kind} {block.options['model']} for about {seconds:g} s")
    if os.getloadavg()[0] > (os.cpu_count() or 1) / 2:
        print_note(f"warning: the machine is busy (load {os.getloadavg()[0]:.1f}): the result will be too slow")
    config = read_config()
    servers = RunServers(Servers(config.state_dir, config.secrets))
    profile = asyncio.run(calibrate_engine(block, config.secrets, servers, budget_s=seconds, on_round=_show_round))
    if profile.held_out.mape > MAX_MEAN_ERROR and not keep:
        raise RunError(
            f"the measured steps do not fit together, so the profile is not kept: {_error(profile.held_out)} steps"
            " that were held out",
            hint="let nothing else run on the machine and repeat the command; --keep keeps it all the same",
        )
    path = save_profile(cache_folder(), block, profile)
    if as_json:
        print_result(json.dumps({"profile": str(path), **profile.to_json()}))
    else:
        print_result("\n".join(_lines(profile, path)))


def _choose(plan: LogicalPlan, name: str | None) -> EngineBlock:
    blocks = {block.name: block for block in plan.engines}
    if name is None and len(blocks) == 1:
        return plan.engines[0]
    if name is None:
        raise ConfigError(f"the flow has {len(blocks) or 'no'} engines", hint=f"--engine: {suggest('', blocks)}")
    if name not in blocks:
        raise ConfigError(f"the flow has no engine '{name}'", hint=suggest(name, blocks))
    return blocks[name]


def _show_round(num_done: int, num_rounds: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\rround {num_done} of {num_rounds}" + ("\n" if num_done == num_rounds else ""))
        sys.stderr.flush()


def _lines(profile: Profile, path: Path) -> list[str]:
    model, limits = profile.step_time, profile.limits
    parts = {
        "a step": model.step_s,
        "a prefill token": model.prefill_token_s,
        "a decoding request": model.decode_token_s,
        "1,000 tokens of its context": model.context_token_s * 1e3,
        "1,000 tokens of shared context": model.shared_context_token_s * 1e3,
        "1,000,000 pairs of attention": model.attention_pair_s * 1e6,
    }
    return [
        *(f"{f'{seconds * 1e3:,.3f}':>10} ms  {name}" for name, seconds in parts.items()),
        f"{profile.prefill_tokens_per_s:>10,.0f} prefill tokens/s at best, in steps of {limits.max_step_tokens:,}",
        f"{profile.decode_tokens_per_s:>10,.0f} decode tokens/s at best, {limits.max_decode_requests:,} at once",
        f"error      {_error(profile.held_out)} mixed steps that were held out",
        f"           {_error(profile.fitted)} steps of the fit",
        f"profile    {path}",
    ]


def _error(error: FitError) -> str:
    return f"{error.mape:.1%} mean, {error.median:.1%} median, {error.p90:.1%} at p90 of {error.num_steps:,}"
