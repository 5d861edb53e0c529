"""The house rules that a machine can check; who may import whom is import-linter's part (pyproject.toml).

Reads source and git's list of files; imports nothing of sundog.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Set
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.source_tree import ROOT, SOURCE, listing, modules, place, tracked

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_FOLDER_MODULES = 16
MAX_PARAMETERS = 8
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
PURE_ROOMS = ("cluster", "cost", "ir", "ledger", "queries", "sched")
PURE_MODULES = {
    "__future__", "abc", "array", "base64", "bisect", "collections", "copy", "dataclasses", "decimal", "difflib",
    "enum", "fractions", "functools", "graphlib", "hashlib", "heapq", "itertools", "jinja2", "json", "jsonschema",
    "math", "operator", "pydantic", "pydantic_core", "re", "referencing", "sqlglot", "statistics", "string", "sundog",
    "textwrap", "types", "typing", "zlib",
}  # fmt: skip
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__"}
NAMES_DEFINED_TWICE = {
    "run": "the command and the function of the Python API are one thing to their users",
    "explain": "the command and the function of the Python API are one thing to their users",
    "simulate": "a command has the name that its users type; in a placement it is the meaning of a sequence",
}


def test_files_stay_small() -> None:
    sizes = {place(path, 1): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCE.rglob("*.py")}
    assert sizes
    assert {where: size for where, size in sizes.items() if size > MAX_FILE_LINES} == {}


def test_functions_stay_short() -> None:
    long = [
        f"{place(path, node.lineno)} {node.name}: {lines} lines"
        for path, module in modules("**/*.py")
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert not long, listing(long)


def test_folders_stay_small() -> None:
    """A folder of more modules gets wings."""
    sizes = Counter(path.parent for path in SOURCE.rglob("*.py") if path.name != "__init__.py")
    assert sizes
    large = {str(folder.relative_to(ROOT)): size for folder, size in sizes.items() if size > MAX_FOLDER_MODULES}
    assert large == {}


def test_parameter_lists_stay_short() -> None:
    """Ruff counts them (PLR0913); this test keeps its limit, and who is excused: commands, whose parameters are their
    options, and the words of a flow file that users write by name in Python."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert "PLR0913" in lint["select"]
    assert lint["pylint"]["max-args"] == MAX_PARAMETERS
    assert [name for name, codes in lint["per-file-ignores"].items() if "PLR0913" in codes] == ["src/sundog/cli/*"]
    excused = [
        (path.name, line.strip().partition("(")[0])
        for path in sorted(SOURCE.rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "noqa: PLR0913" in line
    ]
    assert excused == [("builder.py", "def input"), ("nodes_builder.py", "def step")]


def test_modules_import_each_other_in_one_direction() -> None:
    """Imports inside functions and those for types count too: who needs whom is the same."""
    names = {module_name(path): path for path in SOURCE.rglob("*.py")}
    graph = {name: imported(path, names.keys()) - {name} for name, path in names.items()}
    assert any(graph.values())
    assert circle(graph) == []


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, known: Collection[str]) -> set[str]:
    """Return which of the `known` modules a file imports, at any place in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & set(known) or {node.module}
    return found & set(known)


def circle(graph: Mapping[str, Set[str]]) -> list[str]:
    """Return the names along one circle, none where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}


def test_modules_are_named_for_what_they_own() -> None:
    assert [str(path) for path in SOURCE.rglob("*") if VAGUE_NAMES & set(path.stem.split("_"))] == []


def test_a_public_name_means_one_thing() -> None:
    """The rule is for classes, functions and names of types. Constants are for their modules' readers: they may be
    short."""
    defined: dict[str, list[str]] = defaultdict(list)
    for path, module in modules("**/*.py"):
        for node in module.body:
            for name in names_defined(node):
                defined[name].append(place(path, node.lineno))
    several = {name: places for name, places in defined.items() if len({one.partition(":")[0] for one in places}) > 1}
    assert several.keys() >= NAMES_DEFINED_TWICE.keys(), "an exception that is none any more"
    unknown = [f"{name}: {', '.join(places)}" for name, places in several.items() if name not in NAMES_DEFINED_TWICE]
    assert not unknown, listing(unknown)


def names_defined(node: ast.stmt) -> Iterator[str]:
    """The public classes, functions and types that a statement of a module defines."""
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            if not name.startswith("_"):
                yield name
        case ast.Assign(targets=[ast.Name(id=name)]) if re.fullmatch(r"[A-Z]+[a-z]\w*", name):
            yield name


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("class Step: ...", ["Step"]),
        ("async def run(): ...", ["run"]),
        ("KVStep = Step | None", ["KVStep"]),
        ("class _Step: ...", []),
        ("MAX_STEPS = 3", []),
        ("T = TypeVar('T')", []),
    ],
)
def test_a_definition_is_seen(source: str, names: list[str]) -> None:
    assert [name for node in ast.parse(source).body for name in names_defined(node)] == names


@pytest.mark.parametrize("room", PURE_ROOMS)
def test_pure_rooms_use_no_clock_randomness_or_io(room: str) -> None:
    impure = [
        f"{place(path, line)} {name}"
        for path, module in modules(f"{room}/**/*.py")
        for node in ast.walk(module)
        for line, name in impurities(node)
    ]
    assert not impure, listing(impure)


def impurities(node: ast.AST) -> Iterator[tuple[int, str]]:
    match node:
        case ast.Import():
            for alias in node.names:
                if alias.name.partition(".")[0] not in PURE_MODULES:
                    yield node.lineno, f"imports {alias.name}"
        case ast.ImportFrom(module=str(name)) if name.partition(".")[0] not in PURE_MODULES:
            yield node.lineno, f"imports from {name}"
        case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS:
            yield node.lineno, f"calls {name}()"


@pytest.mark.parametrize(
    ("source", "complaints"),
    [
        ("import time", ["imports time"]),
        ("from random import random", ["imports from random"]),
        ("import os.path", ["imports os.path"]),
        ("print(1)", ["calls print()"]),
        ("from collections.abc import Callable", []),
    ],
)
def test_an_impurity_is_seen(source: str, complaints: list[str]) -> None:
    assert [name for node in ast.walk(ast.parse(source)) for _, name in impurities(node)] == complaints


def test_every_room_has_an_import_contract() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = config["tool"]["importlinter"]["contracts"]
    guarded = {contract["source_modules"][0] for contract in contracts if contract["forbidden_modules"] == ["sundog.*"]}
    rooms = {
        f"sundog.{path.stem}" for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert rooms - guarded == {"sundog.__init__", "sundog.__main__", "sundog.cli"}


BARE_EXEMPTION = re.compile(
    r"#\s*(?:type:\s*ignore(?!\[[\w-]+(?:,\s*[\w-]+)*\]\W*\w)|noqa(?!:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*\W+\w))"
)


def test_every_exemption_has_a_code_and_a_reason() -> None:
    bare = [
        f"{place(path, number)} {line.strip()}"
        for path in tracked("*.py")
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if BARE_EXEMPTION.search(line)
    ]
    assert not bare, listing(bare)


@pytest.mark.parametrize(
    ("line", "is_bare"),
    [
        ("x = y  # type: ignore", True),
        ("x = y  # type: ignore[arg-type]", True),
        ("x = y  # type: ignore[arg-type]  # the stub is too narrow", False),
        ("import a  # noqa", True),
        ("import a  # noqa: F401", True),
        ("import a  # noqa: F401 - loaded for its effect", False),
    ],
)
def test_a_bare_exemption_is_seen(line: str, is_bare: bool) -> None:
    assert bool(BARE_EXEMPTION.search(line)) == is_bare


MACHINE_PATH = re.compile(r"(?<![\w.}\])])(?:/(?:home|Users|root|work)/\w|[A-Z]:\\\\?Users)")


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    named = [
        f"{place(path, number)} {line.strip()[:100]}"
        for path in tracked()
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if MACHINE_PATH.search(line) or f"{ROOT}/" in line
    ]
    assert not named, listing(named)


LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)")


def test_links_of_the_documents_point_at_files() -> None:
    links = [
        (path, match.group(1)) for path in tracked("*.md") for match in LINK.finditer(path.read_text(encoding="utf-8"))
    ]
    assert links
    broken = [f"{path.relative_to(ROOT)} -> {target}" for path, target in links if not (path.parent / target).exists()]
    assert not broken, listing(broken)


@pytest.mark.parametrize("folder", ["docs", "docs/decisions"])
def test_every_page_is_in_the_table_of_contents(folder: str) -> None:
    contents = LINK.findall((ROOT / folder / "index.md").read_text(encoding="utf-8"))
    pages = {path.name for path in tracked("docs/*.md") if path.parent == ROOT / folder} - {"index.md"}
    assert pages
    assert sorted(pages - set(contents)) == []
    folders = {path.parent for path in tracked("docs/*.md")}
    assert folders == {ROOT / "docs", ROOT / "docs" / "decisions"}, "a folder of pages has an index of its own"


def test_every_decision_has_a_number_a_question_and_an_answer() -> None:
    pages = tracked("docs/decisions/0*.md")
    assert [path.name[:3] for path in pages] == [f"{number:03}" for number in range(1, len(pages) + 1)]
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {path.name[:3]}: "), path.name
        assert "\n**Question.** " in text, path.name
        assert "\n**Decision" in text, path.name


def test_every_skip_has_a_reason() -> None:
    """A test that is left out says why: `pytest.skip` as its argument, all others as `reason`."""
    silent = [
        f"{place(path, node.lineno)} {ast.unparse(node.func)}"
        for path in tracked("tests/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path)))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in SKIPS
        and not any(word.arg == "reason" for word in node.keywords)
        and not (ast.unparse(node.func) == "pytest.skip" and node.args)
    ]
    assert not silent, listing(silent)


SKIPS = {"pytest.skip", "pytest.importorskip", "pytest.xfail"} | {
    f"pytest.mark.{name}" for name in ("skip", "skipif", "xfail")
}
