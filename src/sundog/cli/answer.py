"""`sundog answer`: the questions that a run's rows wait with, and their answers."""

from __future__ import annotations

import getpass
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sundog.cli.options import JSON, Debug, RunId, State
from sundog.cli.terminal.console import print_note, print_result
from sundog.config import read_config
from sundog.errors import ConfigError

if TYPE_CHECKING:
    from sundog.runtime.answers import OpenQuestion, OpenQuestions

RowOption = Annotated[
    str | None,
    typer.Option("--row", help="The row whose question --text answers, as the list says.", show_default=False),
]
TextOption = Annotated[str | None, typer.Option("--text", help="The answer.", show_default=False)]
PathOption = Annotated[
    str | None, typer.Option("--path", help="The question, where a row has several.", show_default=False)
]

ByOption = Annotated[
    str | None,
    typer.Option(
        "--by", metavar="NAME", help="Who answers, as `sundog trace` tells. [default: your login]", show_default=False
    ),
]


def answer(
    run: RunId,
    row: RowOption = None,
    text: TextOption = None,
    path: PathOption = None,
    by: ByOption = None,
    state: State = None,
    as_json: JSON = False,
    debug: Debug = False,
) -> None:
    """Answer what rows of a run wait for.

    Without --row, a terminal is asked question by question, and anything else gets the list. The run's own command
    then continues it.
    """
    from sundog.runtime.answers import open_questions

    if (row is None) != (text is None):
        raise ConfigError("--row and --text go together", hint="sundog answer RUN --row 17 --text yes")
    with open_questions(read_config(state).state_dir, run, _login_name() if by is None else by) as questions:
        if row is not None and text is not None:
            questions.answer(row, text, path)
        elif as_json:
            print_result(json.dumps([asdict(question) for question in questions]))
            return
        elif sys.stdin.isatty() and sys.stdout.isatty():
            _ask(questions)
        else:
            for question in questions:
                print_result(_shown(question))
        print_note(_left(questions))


def _login_name() -> str:
    """Return the login name, empty where the machine knows none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _ask(questions: OpenQuestions) -> None:
    """Ask for one answer after the other; an empty one leaves the question open, and the end of input all others."""
    for question in list(questions):
        print_result(_shown(question))
        try:
            text = input("> ").strip()
        except EOFError:
            print_result("")
            return
        if text:
            questions.answer(question.row, text, question.path)


def _shown(question: OpenQuestion) -> str:
    """Return a question on lines of its own, all but the first indented, so that none looks like another question;
    control characters of a question must not act on the terminal."""
    lines = question.question.split("\n")
    text = "\n  ".join("".join(one if one.isprintable() else " " for one in line) for line in lines)
    number = len(question.shared_by)
    others = f", and {number:,} other {'row' if number == 1 else 'rows'}" if number else ""
    return f"row {question.row} ({question.path}){others}: {text}"


def _left(questions: OpenQuestions) -> str:
    if not len(questions):
        return f"run {questions.run_id} waits for no answer; unless it has finished, its command continues it"
    number = "1 question" if len(questions) == 1 else f"{len(questions):,} questions"
    of = "1 row" if questions.num_rows == 1 else f"{questions.num_rows:,} rows"
    have = "has" if len(questions) == 1 else "have"
    return f"{number} of {of} {have} no answer yet: sundog answer {questions.run_id} --row ROW --text TEXT"
