"""The pages about the code name what is there: modules, functions and files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.source_tree import ROOT, SOURCE

PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "design.md", *sorted((ROOT / "docs" / "decisions").glob("*.md"))]
ROOMS = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
DOTTED = re.compile(r"`([a-z_]+(?:\.\w+)+)`")
FILE = re.compile(r"`((?:src|tests|benchmarks|scripts|docs)/[\w./]+)`")


def is_there(dotted: str) -> bool:
    """Return whether the longest module that `dotted` names defines the rest of it."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        path = SOURCE.joinpath(*parts[:length])
        rest = parts[length:]
        if path.is_dir() and not rest:
            return True
        if path.with_suffix(".py").is_file():
            text = path.with_suffix(".py").read_text(encoding="utf-8")
            return all(
                re.search(rf"^\s*(?:async def|def|class) {name}\b|^\s*{name}\b[^(]*[:=]", text, re.M) for name in rest
            )
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_of_code_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = [
        name for name in DOTTED.findall(text) if name.partition(".")[0] in ROOMS and not name.endswith((".py", ".md"))
    ]
    assert [name for name in named if not is_there(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_are_there(page: Path) -> None:
    named = [name for name in FILE.findall(page.read_text(encoding="utf-8")) if "NAME" not in name]
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_a_name_that_is_not_there_is_seen() -> None:
    assert is_there("sched.core.SchedulerCore")
    assert not is_there("sched.core.NoSuchCore")
    assert not is_there("sched.no_such_module")
