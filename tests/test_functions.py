"""Functions by name: found, told apart, and clear when they are not there."""

from __future__ import annotations

import json
import os.path
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sundog.errors import FlowError
from sundog.functions import is_reference, refer_to, resolve_function


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    modules, path = dict(sys.modules), list(sys.path)
    yield
    for name in sys.modules.keys() - modules.keys():
        del sys.modules[name]
    sys.modules.update(modules)
    sys.path[:] = path


def module_level(value: int) -> int:
    return value


def write(folder: Path, name: str, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder)


def test_an_importable_function_is_known_by_its_name() -> None:
    assert refer_to(json.loads) == "json:loads"
    assert refer_to(module_level) == f"{__name__}:module_level"
    assert resolve_function(f"{__name__}:module_level", base_dir=None) is module_level


def test_the_flows_folder_comes_first(tmp_path: Path) -> None:
    first = write(tmp_path / "first", "own_checks.py", "def name(): return 'first'")
    second = write(tmp_path / "second", "own_checks.py", "class Deep:\n  @staticmethod\n  def name(): return 'second'")
    assert resolve_function("own_checks:name", base_dir=first)() == "first"
    assert resolve_function("own_checks:Deep.name", base_dir=second)() == "second"
    assert resolve_function("own_checks:name", base_dir=first)() == "first"


def test_a_module_is_imported_once(tmp_path: Path) -> None:
    folder = write(tmp_path, "own_once.py", "def name(): pass")
    assert resolve_function("own_once:name", base_dir=folder) is resolve_function("own_once:name", base_dir=folder)


def test_a_package_in_the_folder_is_found(tmp_path: Path) -> None:
    write(tmp_path / "own_package", "__init__.py", "")
    write(tmp_path / "own_package", "inner.py", "def name(): return 'inner'")
    assert resolve_function("own_package.inner:name", base_dir=str(tmp_path))() == "inner"


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("checks", "does not name a function"),
        ("checks.py:run it", "does not name a function"),
        ("no_such_module:run", "cannot be imported: No module named 'no_such_module'"),
        ("json:lods", "'json' has no 'lods'"),
        ("json:decoder.nothing", "has no 'decoder.nothing'"),
        ("json:__name__", "is not a function but of type str"),
        ("<session>:gone-123", "belongs to another process"),
    ],
)
def test_what_cannot_be_resolved_says_why(reference: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(FlowError, match=complaint):
        resolve_function(reference, base_dir=str(tmp_path))


def test_a_module_that_fails_says_how(tmp_path: Path) -> None:
    folder = write(tmp_path, "own_broken.py", "raise RuntimeError('no luck')")
    with pytest.raises(FlowError, match="failed: RuntimeError: no luck"):
        resolve_function("own_broken:run", base_dir=folder)


def test_a_module_that_hides_one_of_python_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "json.py", "def run(): pass")
    with pytest.raises(FlowError, match="'json' is a module of Python itself"):
        resolve_function("json:run", base_dir=folder)


def adder(amount: Any) -> Callable[[int], Any]:
    return lambda value: value + amount


def test_functions_of_this_process_are_known_by_code_and_captures() -> None:
    assert refer_to(adder(1)) == refer_to(adder(1))
    assert len({refer_to(adder(amount)) for amount in (1, 2, "x", (1, 2), {"a": 1}, None, os.path, module_level)}) == 8
    one, two = adder(1), adder(2)
    references = refer_to(one), refer_to(two)
    assert [resolve_function(reference, base_dir=None)(10) for reference in references] == [11, 12]


def test_defaults_tell_functions_apart() -> None:
    functions = [lambda value, amount=amount: value + amount for amount in (1, 2)]
    assert refer_to(functions[0]) != refer_to(functions[1])


def test_a_function_without_source_is_known_by_its_code() -> None:
    first, second, again = (eval(f"lambda value: value + {amount}") for amount in (1, 2, 1))
    assert refer_to(first) == refer_to(again) != refer_to(second)


def test_functions_on_one_line_are_told_apart() -> None:
    first, second, inner = lambda value: value.a, lambda value: value.b, lambda value: lambda: value.a
    other = lambda value: lambda: value.b  # noqa: E731  # as users write them
    assert len({refer_to(function) for function in (first, second, inner, other)}) == 4


def test_a_reference_is_the_same_in_every_process() -> None:
    script = "from sundog.functions import refer_to; print(refer_to(lambda v: v in {'a', 'b', 'c'} and (lambda: v)))"
    found = {
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in "1234"
    }
    assert len(found) == 1
    assert found.pop().startswith(b"<session>:lambda-")


def test_a_capture_without_a_name_is_refused() -> None:
    with pytest.raises(FlowError, match="captures 'amount', a object"):
        refer_to(adder(object()))


def test_only_functions_are_called() -> None:
    class Callable_:  # noqa: N801  # an object that only looks like a function
        def __call__(self) -> None: ...

    with pytest.raises(FlowError, match="not an object of type Callable_"):
        refer_to(Callable_())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a:b", True), ("a.b:c.d", True), ("a", False), ("a:", False), (":b", False), ("a:b:c", False), ("a/b:c", False)],
)
def test_the_form_of_a_reference(text: str, expected: bool) -> None:
    assert is_reference(text) is expected
