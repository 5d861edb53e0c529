"""A function of the flow's folder that was mended: its old results are not given as if it had made them."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sundog.operators.own_modules import digests_of
from tests.cli.flows import sundog

FLOW = """
name: edited
inputs: {rows: {path: rows.jsonl}}
nodes:
  value: {python: {call: "sundog_edited_steps:value", args: {x: "{{ row.id }}"}}}
outputs: {value: "{{ value }}"}
"""
STEPS = "from sundog_edited_deep import two\n\ndef value(x):\n    return x + two.NUMBER\n"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "flow.yaml").write_text(FLOW)
    (tmp_path / "rows.jsonl").write_text('{"id": 0}\n{"id": 1}\n')
    (tmp_path / "sundog_edited_steps.py").write_text(STEPS)
    (tmp_path / "sundog_edited_deep").mkdir()
    (tmp_path / "sundog_edited_deep" / "__init__.py").write_text("")
    (tmp_path / "sundog_edited_deep" / "two.py").write_text("NUMBER = 2\n")
    (tmp_path / "unused.py").write_text("")
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.startswith("sundog_edited")]:
        del sys.modules[name]


def ran(folder: Path, *options: str, is_new_process: bool = True) -> tuple[str, list[int]]:
    """The first line it says, and the output; as a new process would, or as one that has loaded the modules."""
    if is_new_process:
        forget()
    done = sundog(folder, "run", "flow.yaml", "--output", "out.jsonl", *options)
    assert done.exit_code in (0, 1), done.stderr
    path = folder / "out.jsonl"
    return done.stderr.splitlines()[0], [json.loads(line)["value"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("file", "text", "output"),
    [
        ("sundog_edited_steps.py", STEPS.replace("x +", "10 * x +"), [2, 12]),
        ("sundog_edited_deep/two.py", "NUMBER = 2 + 3\n", [5, 6]),
        ("sundog_edited_deep/__init__.py", "# nothing\n", [2, 3]),
    ],
)
def test_an_edited_file_of_a_function_makes_another_run(folder: Path, file: str, text: str, output: list[int]) -> None:
    assert ran(folder)[1] == [2, 3]
    (folder / file).write_text(text)
    line, values = ran(folder)
    assert values == output
    assert f"new, 2 rows, as {file} has changed since run edited-" in line
    assert "finished already" in ran(folder)[0]


@pytest.mark.parametrize("by_whom", ["the run before", "the user"])
def test_what_was_loaded_before_it_was_edited_is_loaded_anew(folder: Path, by_whom: str) -> None:
    """A notebook is one process, in which files are edited between two runs."""
    if by_whom == "the user":
        sys.path.insert(0, str(folder))
        sys.modules["sundog_edited_steps"] = importlib.import_module("sundog_edited_steps")
    else:
        assert ran(folder)[1] == [2, 3]
    module = sys.modules["sundog_edited_steps"]
    (folder / "sundog_edited_steps.py").write_text(STEPS.replace("x +", "10 * x +"))
    assert ran(folder, is_new_process=False)[1] == [2, 12]
    assert module.value(1) == 12, "the user's own name for it knows, too"
    (folder / "sundog_edited_deep" / "two.py").write_text("NUMBER = 2 + 3\n")
    assert ran(folder, is_new_process=False)[1] == [5, 15]
    assert "finished already" in ran(folder, is_new_process=False)[0]


def test_what_cannot_be_loaded_anew_is_told_and_runs_no_old_code(folder: Path) -> None:
    assert ran(folder)[1] == [2, 3]
    for text in ("NUMBER = \n", "raise LookupError('gone')\n"):
        (folder / "sundog_edited_deep" / "two.py").write_text(text)
        done = sundog(folder, "run", "flow.yaml", "--output", "out.jsonl")
        assert done.exit_code == 2
        assert "importing 'sundog_edited_steps' for the function 'sundog_edited_steps:value' failed" in done.stderr
    (folder / "sundog_edited_deep" / "two.py").write_text("NUMBER = 2 + 7\n")
    assert ran(folder, is_new_process=False)[1] == [9, 10]


def test_another_file_of_the_folder_does_not(folder: Path) -> None:
    ran(folder)
    (folder / "unused.py").write_text("import sundog_edited_steps\n")
    assert "finished already" in ran(folder)[0]


def test_failed_rows_are_tried_again_with_the_mended_function(folder: Path) -> None:
    (folder / "sundog_edited_steps.py").write_text("def value(x):\n    return 1 / x\n")
    assert ran(folder)[1] == [1.0]
    assert "2 rows, 1 of them failed; --retry-failed tries those again, --fresh all" in ran(folder)[0]
    (folder / "sundog_edited_steps.py").write_text("def value(x):\n    return 7\n")
    assert ran(folder, "--retry-failed")[1] == [7, 1.0]
    assert "finished already" in ran(folder)[0], "that is what the run's functions are now"


def test_what_a_module_needs_is_found_however_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    files = {
        "a.py": "import os, b.nowhere\ndef f():\n    from pack import c\n",
        "b.py": "import a\n",
        "pack/__init__.py": "",
        "pack/c.py": "from . import d\nfrom .e import x\nfrom ..b import y\n",
        "pack/d.py": "not python at all\n",
        "pack/e.py": "",
        "os.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert set(digests_of("a", tmp_path)) == {*files}
    assert digests_of("json", tmp_path) == {}
