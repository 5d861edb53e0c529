"""The command line of the benchmark, behind `sundog bench`. Wiring only."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Annotated

import typer

from halo.arms.catalog import default_arms, flow_arm, is_installed
from halo.case import KV_SIZES, MODELS
from halo.deployments import modelled_profile
from halo.endpoint import MODEL
from halo.inputs import REPETITIONS
from halo.report import write_report
from halo.results import group, read_results
from halo.runner import run
from halo.table import markdown_table, short_table, write_into
from halo.turns import Condition, Settings
from halo.workloads.catalog import PUBLISHED, WORKLOADS, check_packages
from sundog.cost.profile import Profile
from sundog.engines.embedded.models import cache_folder
from sundog.errors import ConfigError, suggest
from sundog.ir.logical import EngineBlock
from sundog.measured.profiles import load_profile

RESULTS = Path(__file__).parents[1] / "results" / "halo"
QUICK_ROWS = 12
CONDITIONS = "halo/large,none/large,none/small"
# Thousands of rows through the eight connections that every arm has: with longer ones, only HTTP would be measured.
HTTP_MEAN_S = {"modelled": 0.02}
# The same every time.
NUM_REPEATS = {"modelled": 1}

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _names(text: str, known: tuple[str, ...], what: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no {what} '{name}'", hint=suggest(name, known))
    return names


def _conditions(text: str) -> tuple[Condition, ...]:
    """ConfigError for a pair that is none."""
    known: dict[str, Condition] = {f"{one}/{kv}": (one, kv) for one in REPETITIONS for kv in KV_SIZES}
    return tuple(known[name] for name in _names(text, tuple(known), "condition"))


@app.callback(invoke_without_command=True)
def bench(  # noqa: PLR0913 - a command's parameters are its options
    context: typer.Context,
    quick: Annotated[
        bool, typer.Option("--quick", help="All workloads and arms on the null engine, in seconds.")
    ] = False,
    engine: Annotated[str, typer.Option(help="null, embedded, vllm or modelled.")] = "embedded",
    rows: Annotated[str, typer.Option(help="Rows of a case; several with commas.")] = "24",
    repeats: Annotated[
        int | None, typer.Option(min=1, help="How often each arm runs. [default: 5; modelled 1, all are alike]")
    ] = None,
    conditions: Annotated[str, typer.Option(help="REPETITION/KV: none, halo or zipf, large or small.")] = CONDITIONS,
    workloads: Annotated[str, typer.Option(help="w1 to w6, early_w1 to early_w6; several with commas.")] = ",".join(
        PUBLISHED
    ),
    arms: Annotated[str, typer.Option(help="Several with commas; sundog-without-RULE for an ablation.")] = "",
    seed: Annotated[int, typer.Option(help="Of the rows.")] = 1,
    replicas: Annotated[int, typer.Option(min=3, help="Of the modelled engine, all models together.")] = 8,
    http_mean_s: Annotated[
        float | None, typer.Option("--http-mean", min=0, help="Mean latency in seconds. [default: 0.5; modelled 0.02]")
    ] = None,
    tpch_scale: Annotated[float, typer.Option(help="Scale factor of TPC-H.")] = 0.01,
    database: Annotated[str | None, typer.Option(help="A PostgreSQL URL, in place of SQLite files.")] = None,
    profile: Annotated[
        Path | None, typer.Option(help="Of the engine, from sundog calibrate; for the work bound.")
    ] = None,
    folder: Annotated[
        Path, typer.Option("--results", help="Where result files are; a run goes on where it ended.")
    ] = RESULTS,
    allow_busy: Annotated[bool, typer.Option("--allow-busy", help="Measure on a busy machine all the same.")] = False,
    max_hours: Annotated[float, typer.Option(min=0, help="Begin nothing after that many.")] = inf,
) -> None:
    """Run the workloads of Halo by sundog and by what users would write instead."""
    if context.invoked_subcommand is not None:
        return
    check_packages()
    chosen_arms = tuple(arms.split(",")) if arms else default_arms()
    for arm in chosen_arms:
        flow_arm(arm)
    names = _names(workloads, tuple(WORKLOADS), "workload")
    if quick:
        _quick(names, chosen_arms, seed, tpch_scale, database)
        return
    # So that a run that is stopped takes its servers with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    settings = Settings(
        engine=engine,
        workloads=names,
        arms=chosen_arms,
        conditions=_conditions(conditions),
        num_rows=tuple(int(one) for one in rows.split(",")),
        num_repeats=repeats or NUM_REPEATS.get(engine, 5),
        seed=seed,
        folder=folder,
        replicas=replicas,
        http_mean_s=HTTP_MEAN_S.get(engine, 0.5) if http_mean_s is None else http_mean_s,
        tpch_scale=tpch_scale,
        database=database,
        needs_idle_machine=not allow_busy and engine != "modelled",
        max_s=3600 * max_hours,
        profiles=_profiles(engine, profile),
    )
    num_measured = run(settings, typer.echo)
    typer.echo(f"{num_measured} measurements; results in {folder}")


def _quick(
    workloads: tuple[str, ...], arms: tuple[str, ...], seed: int, tpch_scale: float, database: str | None
) -> None:
    """Every arm once, in this process. Its times say nothing of a model; it shows that all arms give the same rows."""
    with tempfile.TemporaryDirectory(prefix="sundog-bench-") as folder:
        installed = tuple(arm for arm in arms if is_installed(arm))
        settings = Settings(
            engine="null",
            workloads=workloads,
            arms=installed,
            conditions=(("halo", "large"),),
            num_rows=(QUICK_ROWS,),
            num_repeats=1,
            seed=seed,
            folder=Path(folder),
            http_mean_s=0.01,
            tpch_scale=tpch_scale,
            database=database,
            is_isolated=False,
        )
        run(settings, typer.echo)
        cases = group(read_results(Path(folder)))
        typer.echo(markdown_table(cases))
        for arm in arms:
            if arm not in installed:
                typer.echo(f"{arm}: not installed (pip install '.[bench,bench-others]')")
        wrong = [f"{case.slug} {arm}" for case in cases for arm in case.arms if case.share_equal(arm) != 1.0]
        if wrong and "asyncio" in installed:
            raise AssertionError(f"these arms gave other rows than plain asyncio: {', '.join(wrong)}")


def _profiles(engine: str, path: Path | None) -> Mapping[str, Profile]:
    """Return the profile of each model; nothing where none is known."""
    if path is not None:
        return dict.fromkeys(MODELS, Profile.from_json(json.loads(path.read_bytes())))
    if engine == "modelled":
        return {model: modelled_profile(model) for model in MODELS}
    if engine != "embedded":
        return {}
    found = load_profile(cache_folder(), EngineBlock("local", "openvino", {"model": MODEL}))
    if found is None:
        typer.echo("no profile of the embedded engine: without it there is no work bound (sundog calibrate)", err=True)
        return {}
    return dict.fromkeys(MODELS, found)


@app.command()
def report(
    folder: Annotated[Path, typer.Option("--results", help="Where result files are.")] = RESULTS,
    output: Annotated[Path, typer.Option(help="The page to write.")] = Path("bench.html"),
) -> None:
    """Write one HTML page of all results."""
    write_report(group(read_results(folder)), output)
    typer.echo(str(output))


@app.command()
def table(
    folder: Annotated[Path, typer.Option("--results", help="Where result files are.")] = RESULTS,
    readme: Annotated[Path | None, typer.Option(help="Put the short table between the marks in this file.")] = None,
    full: Annotated[Path | None, typer.Option(help="Put all tables between the marks in this file.")] = None,
) -> None:
    """Print the Markdown tables of all results, or write them into files."""
    cases = group(read_results(folder))
    if readme is None and full is None:
        typer.echo(markdown_table(cases))
    for path, write in ((readme, short_table), (full, markdown_table)):
        if path is not None:
            write_into(path, write(cases))
