"""`sundog init`: a flow to begin with, its rows, and the commands that run it.

Owns the choice of a starter and the writing of its files. The starters themselves lie in cli/starters, a folder each.
"""

from __future__ import annotations

import importlib.util
import shlex
import sqlite3
import sys
from contextlib import closing
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from sundog.cli.options import Debug
from sundog.cli.terminal.console import print_note, print_result
from sundog.errors import ConfigError

EMBEDDED_MODEL = "smollm2-135m"


class Kind(StrEnum):
    CLASSIFY = "classify"
    ANSWER = "answer"
    SERVED = "served"


ABOUT = {
    Kind.CLASSIFY: "sort support tickets and take fields out of them, with the embedded model",
    Kind.ANSWER: "answer questions from documents found by SQL, with the embedded model",
    Kind.SERVED: "write and judge product texts, with a server that speaks OpenAI's protocol (vLLM, Ollama, hosted)",
}
KindOption = Annotated[
    Kind | None,
    typer.Option("--kind", help="Which flow. [default: asks on a terminal, else classify]", show_default=False),
]
Folder = Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to; it is made where it is not there.")]


def init(folder: Folder = Path(), kind: KindOption = None, debug: Debug = False) -> None:
    """Write a flow to begin with, and its rows.

    Files that are there are never written over.
    """
    chosen = kind or (_ask() if sys.stdin.isatty() and sys.stderr.isatty() else Kind.CLASSIFY)
    contents = _contents(chosen)
    _refuse_to_overwrite(folder, list(contents))
    _write(folder, contents)
    print_result(f"{ABOUT[chosen]}:")
    for name in contents:
        print_result(f"  {folder / name}")
    print_result("next:")
    for command in _commands(folder, chosen):
        print_result(f"  {command}")


def _ask() -> Kind:
    kinds = list(Kind)
    for number, kind in enumerate(kinds, 1):
        print_note(f"{number}  {kind:<9} {ABOUT[kind]}")
    while True:
        sys.stderr.write("which one [1]: ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise typer.Abort
        written = line.strip() or "1"
        if written in kinds:
            return Kind(written)
        if written.isdecimal() and 1 <= int(written) <= len(kinds):
            return kinds[int(written) - 1]


def _contents(kind: Kind) -> dict[str, str]:
    """Return the files of a starter by name: `flow.yaml` first. `NAME.sql` is the text of a database."""
    folder = files("sundog.cli") / "starters" / kind.value
    found = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if file.is_file()}
    texts = {name.replace(".sql", ".db"): text for name, text in found.items()}
    return dict(sorted(texts.items(), key=lambda item: (item[0] != "flow.yaml", item[0])))


def _refuse_to_overwrite(folder: Path, names: list[str]) -> None:
    there = [str(folder / name) for name in names if (folder / name).exists() or (folder / name).is_symlink()]
    if there:
        raise ConfigError(f"{there[0]} is there already", hint="name another folder: sundog init DIR")


def _write(folder: Path, contents: dict[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            if name.endswith(".db"):
                with closing(sqlite3.connect(folder / name)) as database:
                    database.executescript(text)
            else:
                (folder / name).write_text(text, encoding="utf-8")
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(
            f"cannot write into {folder}: {getattr(error, 'strerror', None) or error}", hint="name another folder"
        ) from error


def _commands(folder: Path, kind: Kind) -> list[str]:
    """Return what to type next."""
    into = [] if folder == Path() else [f"cd {shlex.quote(str(folder))}"]
    runs = ["sundog explain flow.yaml", "sundog run flow.yaml --output answers.jsonl"]
    if kind is Kind.SERVED:
        return [*into, "# write your server's address and model into flow.yaml", *runs]
    missing = [] if importlib.util.find_spec("openvino_genai") else ["pip install 'sundog[local]'"]
    return [*missing, f"sundog model pull {EMBEDDED_MODEL}", *into, *runs]
