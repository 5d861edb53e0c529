"""`sundog run`: run a flow over its rows, show how it goes, say what came out."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic_core import to_json

from sundog.cli.on_ray import Cells, ClusterAddress, FinishIn, On, Shared, ray_place, submitted, working_means
from sundog.cli.options import (
    JSON,
    Debug,
    FlowArgument,
    Inputs,
    Limit,
    MaxRows,
    Naive,
    NoRule,
    ObjectiveOption,
    Outputs,
    PlacementOption,
    Policy,
    Sample,
    Seed,
    State,
    Via,
    planned_session,
)
from sundog.cli.terminal.console import print_note, print_result, require_stdout, result_stream
from sundog.config import read_config
from sundog.errors import AnswersAwaited, ConfigError, RunStopped, SundogError

if TYPE_CHECKING:
    from sundog.display import Display
    from sundog.ir.logical import LogicalPlan
    from sundog.runtime.figures.report import Report
    from sundog.runtime.rows.outputs import Output
    from sundog.runtime.run import Run
    from sundog.runtime.run_options import RunOptions
    from sundog.session.session import Session

MAX_SHOWN_FAILURES = 5
STDOUT = Path("-")
RunDeadline = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Start no call so long after the run began, as 2h.", show_default=False),
]
MaxErrors = Annotated[int | None, typer.Option(min=0, help="Stop when more rows have failed.", show_default=False)]
Buckets = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Write the rows into at most N files first, in the order in which they are read; a run that is continued "
        "reads those.",
        show_default=False,
    ),
]


def run(
    context: typer.Context,
    flow: FlowArgument,
    inputs: Inputs = [],  # noqa: B006 - typer reads the default, nobody changes it
    output: Outputs = [],  # noqa: B006 - as inputs
    state: State = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew and use no earlier result.")] = False,
    limit: Limit = None,
    sample: Sample = None,
    seed: Seed = 0,
    max_errors: MaxErrors = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="The same as --max-errors 0.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run the failed rows again.")] = False,
    repeat_effects: Annotated[
        bool, typer.Option("--repeat-effects", help="Make effects again that another run has made over the same input.")
    ] = False,
    repeat_unknown_effects: Annotated[
        bool,
        typer.Option("--repeat-unknown-effects", help="Run effects again that a crash left without an outcome."),
    ] = False,
    max_usd: Annotated[
        float | None, typer.Option(min=0, metavar="USD", help="Stop before its calls cost more.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Stop before they have more tokens.", show_default=False)
    ] = None,
    deadline: RunDeadline = None,
    buckets: Buckets = None,
    policy: Policy = None,
    max_rows_in_flight: MaxRows = None,
    no_rule: NoRule = [],  # noqa: B006 - as inputs
    naive: Naive = False,
    objective: ObjectiveOption = None,
    placement: PlacementOption = "auto",
    via: Via = None,
    on: On = None,
    address: ClusterAddress = None,
    cells: Cells = None,
    finish_in: FinishIn = None,
    shared: Shared = [],  # noqa: B006 - as inputs
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no report.")] = False,
    as_json: JSON = False,
    debug: Debug = False,
) -> None:
    """Run a flow.

    The same command continues what was interrupted, and repeats nothing that is finished.
    """
    if fail_fast and max_errors:
        raise ConfigError("--fail-fast and --max-errors contradict each other", hint="leave one of them away")
    place = ray_place(context)
    if (code := submitted(context, place)) is not None:
        raise typer.Exit(code)
    config = read_config(state)
    session = planned_session(context, config)
    files, printed = files_of(session.flow.written, output)
    options = _run_options(context, config.state_dir, files)
    with working_means(place, config, flow) as means, session.open_run(options, means) as opened:
        raise typer.Exit(_run(session, opened, printed, is_quiet=quiet, is_json=as_json, allowed=options.max_errors))


def _run_options(context: typer.Context, state_dir: Path, files: dict[str, Output]) -> RunOptions:
    from sundog.runtime.run_options import RunOptions
    from sundog.whatif.duration import read_duration

    given = context.params
    return RunOptions(
        state_dir,
        files,
        given["fresh"],
        0 if given["fail_fast"] else given["max_errors"],
        given["retry_failed"],
        given["repeat_unknown_effects"],
        given["repeat_effects"],
        given["max_usd"],
        given["max_tokens"],
        None if given["deadline"] is None else read_duration("--deadline", given["deadline"]),
        given["buckets"],
    )


def files_of(plan: LogicalPlan, written: list[str]) -> tuple[dict[str, Output], str | None]:
    """Return the files and folders that are written, by table, and the table whose rows go to stdout, None where none
    does; ConfigError where stdout is closed, or two tables go there."""
    from sundog.session.output_names import outputs_named

    outputs = outputs_named(plan, written)
    printed = [table for table, output in outputs.items() if output == STDOUT]
    if len(printed) > 1:
        raise ConfigError("two tables cannot both go to stdout", hint=f"name a file: --output {printed[1]}=rows.jsonl")
    if printed:
        require_stdout()
    return {table: output for table, output in outputs.items() if output != STDOUT}, next(iter(printed), None)


def _run(
    session: Session, opened: Run, printed: str | None, *, is_quiet: bool, is_json: bool, allowed: int | None
) -> int:
    """Execute and report; return the exit code. Rows may only fail where the user said how many (`allowed`).
    `printed`: the table whose rows go to stdout."""
    say = print_result if printed is None else print_note
    display = _open_display(is_quiet=is_quiet, is_json=is_json)
    outcome = execute(session, opened, display, say, is_json=is_json)
    if isinstance(outcome, int):
        return outcome
    if printed is not None:
        _print_rows(opened, printed)
    _show_report(outcome, say, is_quiet=is_quiet, is_json=is_json)
    if not outcome.outputs and not is_quiet:
        _show_failures(opened, outcome, is_json=is_json)
    is_all = not outcome.num_done and not outcome.num_dropped
    return 1 if outcome.num_failed and (is_all or allowed is None) else 0


def _open_display(*, is_quiet: bool, is_json: bool) -> Display:
    from sundog.display import JSONDisplay, LineDisplay, QuietDisplay, TerminalDisplay

    if is_json:
        return JSONDisplay(print_note)
    if is_quiet:
        return QuietDisplay()
    return TerminalDisplay() if sys.stderr.isatty() else LineDisplay(print_note)


def execute(
    session: Session,
    opened: Run,
    display: Display | None = None,
    say: Callable[[str], None] = print_result,
    *,
    is_json: bool = False,
) -> Report | int:
    """Execute and show how it goes: the report, or the exit code of an interruption. `say`: takes the JSON of a run
    that did not finish."""
    from sundog.execution.calls.guard import run_loop

    display = display or _open_display(is_quiet=False, is_json=is_json)
    try:
        display.note(_headline(opened))
        for finding in opened.findings:
            display.note(f"warning: {finding}")
        outcome = run_loop(_execute(session, opened, display))
    except SundogError as error:
        if is_json:
            state = "waits" if isinstance(error, AnswersAwaited) else "unfinished"
            say(json.dumps({"run_id": opened.record.run_id, "state": state, "error": str(error)}))
        raise
    finally:
        display.close()
    if isinstance(outcome, int):
        _say_how_to_continue(opened, say, is_json=is_json)
    return outcome


async def _execute(session: Session, opened: Run, display: Display) -> Report | int:
    """Return the report, or the exit code of an interruption."""
    from sundog.cli.terminal.interrupt import Interrupt
    from sundog.display import watching

    interrupt = Interrupt(opened.stop, display.note)
    plan_calls = partial(session.estimates.planned_calls, opened.record)
    try:
        async with watching(opened.progress, display, plan_calls):
            return await opened.execute(on_note=display.note)
    except (RunStopped, asyncio.CancelledError):
        if interrupt.signal_number is None:
            raise
        return 128 + interrupt.signal_number
    finally:
        interrupt.remove()


def _headline(opened: Run) -> str:
    progress, run_id = opened.progress, opened.record.run_id
    # How many rows queries give is known when they are asked.
    number = opened.record.num_rows
    rows = f"{number:,} {'input ' if progress.num_rows is None else ''}{'row' if number == 1 else 'rows'}"
    if opened.is_finished:
        if num_failed := progress.num_failed:
            return (
                f"run {run_id} is finished already: {rows}, {num_failed:,} of them failed; --retry-failed tries those "
                "again, --fresh all"
            )
        return f"run {run_id} is finished already: {rows}; --fresh runs them again"
    if opened.changed_modules:
        changed = ", ".join(opened.changed_modules)
        verb = "has" if len(opened.changed_modules) == 1 else "have"
        return (
            f"run {run_id}: new, {rows}, as {changed} {verb} changed since run {opened.run_before} began "
            "(--retry-failed goes on with that one)"
        )
    if opened.is_new:
        return f"run {run_id}: new, {rows}"
    of_all = f"{progress.num_restored:,} rows" if progress.num_rows is None else f"{progress.num_restored:,} of {rows}"
    return f"run {run_id}: continued, {of_all} have ended before"


def _print_rows(opened: Run, table: str) -> None:
    """Print the output rows of a table as JSON lines on stdout, in their order."""
    with result_stream() as stream:
        for _, columns in opened.rows((table,)):
            stream.write(to_json(columns) + b"\n")


def _show_report(report: Report, say: Callable[[str], None], *, is_quiet: bool, is_json: bool) -> None:
    if is_json:
        say(json.dumps(report.to_dict()))
    elif not is_quiet:
        head, *rest = str(report).splitlines()
        say("\n".join([typer.style(head, bold=True), *rest]))


def _show_failures(opened: Run, report: Report, *, is_json: bool) -> None:
    """Print the first failed rows of a run without an output, and so without an errors file."""
    for failure in islice(opened.failures(), MAX_SHOWN_FAILURES):
        table = f" of '{failure['table']}'" if "table" in failure else ""
        _note(f"row {failure['row']}{table} failed in {failure['node']}: {failure['cause']}", is_json=is_json)
    if report.num_failed > MAX_SHOWN_FAILURES:
        _note(f"  all {report.num_failed:,} of them: sundog show {report.run_id} --errors", is_json=is_json)


def _note(text: str, *, is_json: bool) -> None:
    print_note(json.dumps({"event": "note", "text": text}) if is_json else text)


def _say_how_to_continue(opened: Run, say: Callable[[str], None], *, is_json: bool) -> None:
    progress = opened.progress
    facts: dict[str, Any] = {"run_id": opened.record.run_id, "state": "unfinished", "num_ended": progress.num_ended}
    if is_json:
        say(json.dumps({**facts, "error": "interrupted"}))
        return
    of_all = "" if progress.num_rows is None else f" of {progress.num_rows:,}"
    print_note(f"interrupted: {progress.num_ended:,}{of_all} rows have ended; every finished call is kept")
    # With --fresh the same words would begin anew.
    words = [word for word in sys.argv[1:] if word != "--fresh"]
    print_note(f"  continue with: {shlex.join(['sundog', *words])}")
