"""`sundog engine`: start, stop and show the servers of a flow's engines."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sundog.cli.options import JSON, Debug, FlowArgument, State
from sundog.cli.terminal.completion import engines
from sundog.cli.terminal.console import print_note, print_result
from sundog.config import read_config
from sundog.errors import ConfigError, suggest

if TYPE_CHECKING:
    from sundog.ir.logical import EngineBlock, LogicalPlan
    from sundog.servers.records import ServerRecord
    from sundog.servers.servers import Servers

engine = typer.Typer(
    no_args_is_help=True,
    help="Start, stop and show the servers of a flow's engines.",
    epilog="Example: sundog engine up flow.yaml",
)
StartedEngines = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="Only those of this engine. [default: all]",
        show_default=False,
        autocompletion=engines,
    ),
]


@engine.command(epilog="Example: sundog engine up flow.yaml")
def up(flow: FlowArgument, engine: StartedEngines = None, state: State = None, debug: Debug = False) -> None:
    """Start servers and wait until all are ready.

    Those that are up already are left alone: repeating it is safe.
    """
    from sundog.servers.servers import sites_of
    from sundog.session.flow_file import load_plan

    sites = [site for block in _chosen(load_plan(flow, {}), engine) for site in sites_of(block)]
    if not sites:
        raise ConfigError("no engine here has servers to start", hint="`kind: vllm` without a `base_url` has")
    for record in asyncio.run(_servers(state).up(sites)):
        print_result(f"{_name(record)}  {record.base_url}")


@engine.command(epilog="Example: sundog engine down --engine local")
def down(engine: StartedEngines = None, state: State = None, debug: Debug = False) -> None:
    """Stop servers and forget them.

    Those that do not end when asked are stopped by force.
    """
    servers = _servers(state)
    chosen = [record for record in servers.records.all() if engine in (None, record.engine)]
    asyncio.run(servers.down(chosen))
    if not chosen:
        print_note("no server was started here")


@engine.command(epilog="Example: sundog engine status")
def status(state: State = None, as_json: JSON = False, debug: Debug = False) -> None:
    """Show what has been started, and how busy it is."""
    from sundog.servers.status import statuses_of

    servers = _servers(state)
    for one in asyncio.run(statuses_of(servers.records.all())):
        if as_json:
            print_result(json.dumps(one.to_json()))
        else:
            print_result(f"{_name(one.record):<16} {one.state:<8} {one.record.base_url}  {one.figures}".rstrip())


def _servers(state: Any) -> Servers:
    from sundog.servers.servers import Servers

    config = read_config(state)
    servers = Servers(config.state_dir, config.secrets)

    def show(record: ServerRecord, what: str) -> None:
        log = f", its log is {servers.records.log_path(record)}" if what == "starting" else ""
        print_note(f"{_name(record)}: {what}{log}")

    servers.on_progress = show
    return servers


def _chosen(plan: LogicalPlan, name: str | None) -> tuple[EngineBlock, ...]:
    blocks = {block.name: block for block in plan.engines}
    if name is not None and name not in blocks:
        raise ConfigError(f"the flow has no engine '{name}'", hint=suggest(name, blocks))
    return plan.engines if name is None else (blocks[name],)


def _name(record: ServerRecord) -> str:
    return f"{record.engine}/{record.place}"
