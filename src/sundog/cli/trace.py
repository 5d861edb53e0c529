"""`sundog trace`: a run's event log for a viewer, or the conversations of one of its rows."""

from __future__ import annotations

import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sundog.cli.options import Debug, RunId, State
from sundog.cli.terminal.console import print_note, print_result
from sundog.config import read_config
from sundog.errors import ConfigError

if TYPE_CHECKING:
    from sundog.ir.conversations.transcript import RowConversations

PIPED_WIDTH = 100


class TalkFormat(StrEnum):
    TEXT = "text"
    HTML = "html"


TraceOutput = Annotated[
    Path | None,
    typer.Option(help="Where to. [default: RUN.trace.json; with --row the terminal]", show_default=False),
]
RowToShow = Annotated[
    str | None,
    typer.Option(
        "--row", metavar="ROW", help="The conversations of this row, by its number: 17, drugs:17.", show_default=False
    ),
]
CellOption = Annotated[
    str | None,
    typer.Option(
        "--cell", metavar="CELL", help="Of a run on many machines: the cell, by name or number: 7.", show_default=False
    ),
]
TalkFormOption = Annotated[
    TalkFormat | None,
    typer.Option("--format", help="With --row: text, or a page for a browser. [default: text]", show_default=False),
]
WholeTexts = Annotated[bool, typer.Option("--full", help="With --row: texts as far as they are kept.")]


def trace(
    run: RunId,
    row: RowToShow = None,
    output: TraceOutput = None,
    form: TalkFormOption = None,
    full: WholeTexts = False,
    cell: CellOption = None,
    state: State = None,
    debug: Debug = False,
) -> None:
    """Export a run for a trace viewer, or print what was said in a row.

    The file opens at https://ui.perfetto.dev and in chrome://tracing. With --row: what agents, the steps of loops
    and people said, with tokens and seconds.
    """
    folder = read_config(state).state_dir
    if row is None:
        if form is not None or full:
            raise ConfigError("--format and --full are of one row's conversations", hint="name it: --row 17")
        _export(folder, run, output, cell)
        return
    if cell is not None:
        raise ConfigError("--cell is of event logs, and conversations are of a row", hint="leave --cell or --row away")
    from sundog.runtime.kept_conversations import conversations_of

    found = conversations_of(folder, run, row)
    if output is not None:
        is_page = form is TalkFormat.HTML
        text = _page(found, is_full=full) if is_page else _text(found, PIPED_WIDTH, is_full=full)
        _write(output, text)
        print_result(f"{output}: the conversations of row {row}")
    elif form is TalkFormat.HTML:
        print_result(_page(found, is_full=full))
    else:
        width = shutil.get_terminal_size((PIPED_WIDTH, 24)).columns if sys.stdout.isatty() else PIPED_WIDTH
        print_result(_text(found, width, is_full=full, is_styled=True))


def _export(folder: Path, run: str, output: Path | None, cell: str | None) -> None:
    from sundog.host.trace import write_trace
    from sundog.runtime.kept_conversations import num_conversations
    from sundog.runtime.kept_runs import event_logs, run_id_of
    from sundog.runtime.rows.whole_file import whole_file

    run_id = run_id_of(folder, run)
    logs = event_logs(folder, run_id, cell)
    target = output or Path(f"{run_id}.trace.json" if cell is None else f"{run_id}.{cell}.trace.json")
    with whole_file(target) as file:
        write_trace(logs, file)
    print_result(f"{target}: open it at https://ui.perfetto.dev or in chrome://tracing")
    if number := num_conversations(folder, run_id):
        rows = "1 row has" if number == 1 else f"{number:,} rows have"
        print_note(f"{rows} conversations: sundog trace {run_id} --row ROW")


def _write(target: Path, text: str) -> None:
    from sundog.runtime.rows.whole_file import whole_file

    with whole_file(target) as file:
        file.write(f"{text}\n".encode(errors="backslashreplace"))


def _page(found: RowConversations, *, is_full: bool) -> str:
    from sundog.present.conversations_html import conversations_html

    return conversations_html(found, is_full=is_full)


def _text(found: RowConversations, width: int, *, is_full: bool, is_styled: bool = False) -> str:
    """Return lines. `is_styled`: heads are bold, which `print_result` leaves out where stdout is no terminal."""
    from sundog.present.conversations_text import conversation_lines

    lines = conversation_lines(found, width, is_full=is_full)
    return "\n".join(typer.style(one.text, bold=True) if is_styled and one.is_head else one.text for one in lines)
