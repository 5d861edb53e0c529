"""`sundog calibrate`: measure the step time of an engine, or fit it to measurements of others, and keep it as a
profile."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sundog.cli.options import JSON, Debug
from sundog.cli.terminal.completion import engines, flow_files
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

CalibratedFlow = Annotated[
    Path | None,
    typer.Argument(metavar="[FLOW]", help="The flow file (YAML).", show_default=False, autocompletion=flow_files),
]
From = Annotated[
    list[Path],
    typer.Option(
        "--from",
        metavar="FILE",
        help="Measure nothing: fit a file of measurements, or results of `vllm bench serve` (repeatable).",
    ),
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--name", help="With --from: keep the profile under this name. [default: only print it]", show_default=False
    ),
]
StepTokens = Annotated[
    int | None,
    typer.Option(min=1, help="With results of vLLM: the server's --max-num-batched-tokens.", show_default=False),
]
KeepProfile = Annotated[bool, typer.Option("--keep", help="Keep the profile even if it is off by more than 40 %.")]
Seconds = Annotated[float, typer.Option("--seconds", min=1, help="Repeat the rounds while they fit into this time.")]


def calibrate(
    flow: CalibratedFlow = None,
    engine: CalibratedEngine = None,
    seconds: Seconds = 60.0,
    keep: KeepProfile = False,
    measurements: From = [],  # noqa: B006 - typer reads the default, nobody changes it
    name: ProfileName = None,
    max_step_tokens: StepTokens = None,
    as_json: JSON = False,
    debug: Debug = False,
) -> None:
    """Measure an engine's step time for `explain`.

    The engine and the machine should have nothing else to do. With --from the step time of another machine is fitted to
    its measurements.
    """
    if measurements:
        if flow is not None or engine is not None:
            raise ConfigError("--from fits measurements that are there, and measures no engine", hint="leave FLOW away")
        profile, path = _fit(measurements, name, max_step_tokens, keep=keep)
    else:
        if flow is None:
            raise ConfigError("there is nothing to calibrate", hint="name a flow, or measurements with --from FILE")
        if name is not None or max_step_tokens is not None:
            raise ConfigError("--name and --max-step-tokens go with --from", hint="leave them away")
        profile, path = _measure(flow, engine, seconds, keep=keep)
    if as_json:
        print_result(json.dumps({"profile": None if path is None else str(path), **profile.to_json()}))
    else:
        print_result("\n".join(_lines(profile, path, "batches" if measurements else "mixed steps")))


def _measure(flow: Path, engine: str | None, seconds: float, *, keep: bool) -> tuple[Profile, Path]:
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
    _require_fit(profile, keep, "let nothing else run on the machine and repeat the command")
    return profile, save_profile(cache_folder(), block, profile)


def _fit(
    files: list[Path], name: str | None, max_step_tokens: int | None, *, keep: bool
) -> tuple[Profile, Path | None]:
    from sundog.engines.embedded.models import cache_folder
    from sundog.measured.named_profiles import profile_from, save_named_profile

    profile = profile_from(files, max_step_tokens)
    _require_fit(profile, keep, "look for a wrong row, or for batches that did not run at once")
    return profile, None if name is None else save_named_profile(cache_folder(), name, profile)


def _require_fit(profile: Profile, keep: bool, hint: str) -> None:
    if profile.held_out.mape > MAX_MEAN_ERROR and not keep:
        raise RunError(
            f"the measured steps do not fit together, so the profile is not kept: {_error(profile.held_out)} steps"
            " that were held out",
            hint=f"{hint}; --keep keeps it all the same",
        )


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


def _lines(profile: Profile, path: Path | None, held_out: str) -> list[str]:
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
        f"error      {_error(profile.held_out)} {held_out} that were held out",
        f"           {_error(profile.fitted)} steps of the fit",
        *([] if path is None else [f"profile    {path}"]),
    ]


def _error(error: FitError) -> str:
    return f"{error.mape:.1%} mean, {error.median:.1%} median, {error.p90:.1%} at p90 of {error.num_steps:,}"
