"""`sundog serve`: flows and models over HTTP, until a signal asks for the end."""

from __future__ import annotations

import asyncio
import math
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sundog.cli.options import Debug, State
from sundog.cli.terminal import completion
from sundog.cli.terminal.console import print_note
from sundog.config import read_config
from sundog.errors import ConfigError
from sundog.serve.seeing.log_lines import LogFormat, LogLevel, set_up_logs
from sundog.serve.tracing.exporting import is_wanted

if TYPE_CHECKING:
    from sundog.serve.serving import Serving


_Watch = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="Show a batch run of the state folder, and serve nothing: its id, the beginning of that, or `last`.",
        show_default=False,
        autocompletion=completion.run_ids,
    ),
]
_OTel = Annotated[
    bool, typer.Option("--otel", help="Export OpenTelemetry traces, also without OTEL_EXPORTER_OTLP_ENDPOINT.")
]
_AllowedHosts = Annotated[
    list[str],
    typer.Option(
        "--allowed-host",
        metavar="NAME",
        help="A name that the server answers to without keys, beside localhost and the like. Repeatable.",
        show_default=False,
    ),
]
_FileQuota = Annotated[
    float, typer.Option(metavar="GIB", min=0.0, help="GiB that the files of one key have together at most.")
]
_GIB = 2**30


def serve(
    flows: Annotated[
        list[Path],
        typer.Argument(
            metavar="[FLOW]...",
            help="Flow files (YAML), or folders with a flow.yaml.",
            show_default=False,
            autocompletion=completion.flow_files,
        ),
    ] = [],  # noqa: B006 - typer reads the default, nobody changes it
    engines: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Engines (YAML) to serve as models, beside those of flows.", show_default=False
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8321,
    allowed_hosts: _AllowedHosts = [],  # noqa: B006 - typer reads the default, nobody changes it
    file_quota: _FileQuota = 16.0,
    drain: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.0, help="Longest wait for accepted work when asked to stop.")
    ] = 30.0,
    watch: _Watch = None,
    log_format: Annotated[LogFormat, typer.Option(help="Lines for people, or a JSON object each.")] = LogFormat.TEXT,
    log_level: Annotated[LogLevel, typer.Option(help="Requests are logged at `info`.")] = LogLevel.INFO,
    otel: _OTel = False,
    state: State = None,
    debug: Debug = False,
) -> None:
    """Serve flows and models over HTTP.

    What was accepted is finished, also after a crash: the same command goes on with it.
    """
    try:
        from sundog.runtime.watched_run import meant_run
        from sundog.serve.engine_file import load_engines
        from sundog.serve.server import ListenOptions, StoppedAtOnce, serve_flows, serve_watched
    except ModuleNotFoundError as error:
        hint = "install it: pip install 'sundog[serve]'"
        raise ConfigError(f"serving needs the package {error.name}, which is not installed", hint=hint) from error
    config = read_config(state)
    set_up_logs(log_format, log_level, config.secrets.redact)
    options = ListenOptions(host, port, allowed_hosts=tuple(allowed_hosts))
    if watch is not None:
        _refuse_with_watch(flows, engines)
        run_id = meant_run(config.state_dir, watch)
        asyncio.run(serve_watched(config, run_id, options, partial(_say_watched, run_id)))
        return
    blocks = () if engines is None else load_engines(engines)
    is_traced, max_kept_bytes = is_wanted(os.environ, is_said=otel), _num_bytes(file_quota)
    options = replace(options, engines=blocks, drain_s=drain, is_traced=is_traced, max_kept_bytes=max_kept_bytes)
    paths = [path / "flow.yaml" if path.is_dir() else path for path in flows]
    try:
        asyncio.run(serve_flows(config, paths, options, _say_ready))
    except StoppedAtOnce as stopped:
        raise typer.Exit(128 + stopped.number) from None


def _num_bytes(file_quota: float) -> int:
    if not math.isfinite(file_quota):
        raise ConfigError(f"--file-quota {file_quota} is no number of GiB", hint="give a finite one, as 1000")
    return int(file_quota * _GIB)


def _refuse_with_watch(flows: list[Path], engines: Path | None) -> None:
    if flows or engines is not None:
        raise ConfigError("--watch shows a run and serves neither flows nor engines", hint="leave one of them away")


def _say_watched(run_id: str, address: str) -> None:
    print_note(f"showing the run {run_id} at {address}")


def _say_ready(address: str, serving: Serving) -> None:
    flows = ", ".join(serving.loaded) or "no flows"
    models = ", ".join(sorted({name for name, _ in serving.host.models.names()}))
    print_note(f"serving flows: {flows}; models: {models}; at {address}")
