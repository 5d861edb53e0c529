"""The house rules for docstrings: who has one, and how it begins."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.source_tree import Definition, is_public, listing, modules, place, tracked

MAX_UNDOCUMENTED_LINES = 5
CONTRACTS = ("*/base.py", "ir/**/*.py", "sched/core.py", "sched/events.py", "sched/policy.py", "sched/views.py")


def test_every_module_says_what_it_owns() -> None:
    silent = [place(path, 1) for path, module in modules("**/*.py") if module.body and not ast.get_docstring(module)]
    assert not silent, listing(silent)


FRAGMENT = r"(Of|Such|That|Those|What|Which|Who|Whom|Whose|Whether)\b"
FRAGMENT_IN_SOURCE = rf"{FRAGMENT}|(As|At|By|From|None|Nothing|So|Where|When|With|Without)\b"


@pytest.mark.parametrize(
    ("folder", "pattern"), [("src", FRAGMENT_IN_SOURCE), ("benchmarks", FRAGMENT), ("tests", FRAGMENT)]
)
def test_docstrings_begin_as_sentences_do(folder: str, pattern: str) -> None:
    """ "Return whether ...", not "Whether ...": what a docstring is about must not be left to the reader."""
    begin = re.compile(pattern)
    found = [
        place(path, getattr(node, "lineno", 1))
        for path in tracked(f"{folder}/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path)))
        if isinstance(node, Definition | ast.Module) and begin.match(ast.get_docstring(node) or "")
    ]
    assert not found, listing(found)


def test_comments_of_fields_begin_as_sentences_do() -> None:
    begin = re.compile(rf"(?<!#: )\n\s*#: {FRAGMENT}")
    found = [
        place(path, text.count("\n", 0, match.start()) + 2)
        for path in tracked("src/*.py")
        for text in [path.read_text(encoding="utf-8")]
        for match in begin.finditer(text)
        if not re.search(r"^\s*#: .*\Z", text[: match.start()], re.MULTILINE)
    ]
    assert not found, listing(found)


def test_every_contract_is_documented() -> None:
    silent = [
        f"{place(path, node.lineno)} {node.name}"
        for path, module in modules(*CONTRACTS)
        for node in module.body
        if isinstance(node, Definition) and is_public(node.name) and not ast.get_docstring(node)
    ]
    assert not silent, listing(silent)


def test_every_protocol_says_what_its_methods_promise() -> None:
    """A method has a docstring of its own or is named in that of its class; a property speaks by its type."""
    silent = [
        f"{place(path, method.lineno)} {node.name}.{method.name}"
        for path, module in modules(*CONTRACTS)
        for node in module.body
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in node.bases)
        for method in node.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
        and not method.decorator_list
        and not ast.get_docstring(method)
        and f"`{method.name}`" not in (ast.get_docstring(node) or "")
    ]
    assert not silent, listing(silent)


class Classes:
    """All classes of the source by name, with what their methods inherit."""

    def __init__(self) -> None:
        self.by_name = {
            node.name: node
            for _, tree in modules("**/*.py")
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
        }
        self._protocols = [
            node for node in self.by_name.values() if any(ast.unparse(base) == "Protocol" for base in node.bases)
        ]

    def contract(self, owner: ast.ClassDef, method: str) -> bool:
        """Return whether a documented method of that name stands in a base, or in a protocol that `owner` keeps."""
        kept = [one for one in self._protocols if _methods(one).keys() <= self._all_methods(owner)]
        return any(self._documents(one, method) for one in [*self._bases(owner), *kept])

    def _bases(self, node: ast.ClassDef) -> Iterator[ast.ClassDef]:
        for base in node.bases:
            found = self.by_name.get(ast.unparse(base).partition("[")[0])
            if found is not None:
                yield found
                yield from self._bases(found)

    def _all_methods(self, node: ast.ClassDef) -> set[str]:
        return {name for one in [node, *self._bases(node)] for name in _methods(one)}

    def _documents(self, node: ast.ClassDef, method: str) -> bool:
        found = _methods(node).get(method)
        return found is not None and bool(ast.get_docstring(found) or f"`{method}`" in (ast.get_docstring(node) or ""))


def _methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    return {one.name: one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


def definitions(
    body: list[ast.stmt], owner: ast.ClassDef | None = None
) -> Iterator[tuple[Definition, ast.ClassDef | None]]:
    """Each function, class and method below `body`, with the class that it stands in; no function inside another."""
    for node in body:
        if isinstance(node, Definition):
            yield node, owner
        if isinstance(node, ast.ClassDef):
            yield from definitions(node.body, node)


def test_every_longer_public_name_is_documented() -> None:
    """A method may leave it to the method that it overrides, and a short name to its types."""
    classes = Classes()
    public = [
        (path, node, owner)
        for path, tree in modules("**/*.py")
        for node, owner in definitions(tree.body)
        if is_public(node.name) and (node.end_lineno or node.lineno) - node.lineno >= MAX_UNDOCUMENTED_LINES
    ]
    assert len(public) > 500
    silent = [
        f"{place(path, node.lineno)} {node.name}"
        for path, node, owner in public
        if not ast.get_docstring(node) and not (owner is not None and classes.contract(owner, node.name))
    ]
    assert not silent, listing(silent)


def test_every_exception_says_when_it_is_raised_and_where_it_is_caught() -> None:
    classes = Classes().by_name

    def is_exception(node: ast.ClassDef) -> bool:
        bases = [ast.unparse(base) for base in node.bases]
        builtin = re.compile(r"(Exception|\w+Error)$")
        return any(is_exception(classes[name]) if name in classes else builtin.match(name) for name in bases)

    found = {name: ast.get_docstring(node) or "" for name, node in classes.items() if is_exception(node)}
    assert {"SundogError", "TransportFault", "GivenUp"} <= found.keys()
    pattern = re.compile(r"\braised\b.*\bcaught\b", re.DOTALL | re.IGNORECASE)
    assert [name for name, text in found.items() if not pattern.search(text)] == []


TREE_LINE = re.compile(r"^(?P<indent> *(?:[│├└─ ]*))(?P<name>[A-Z]\w+)$", re.M)


def test_the_trees_of_exceptions_are_those_of_the_classes() -> None:
    for path, tree in modules("errors.py", "transport/faults.py"):
        shown: list[tuple[int, str]] = [
            (len(line["indent"]), line["name"]) for line in TREE_LINE.finditer(ast.get_docstring(tree) or "")
        ]
        parents = {
            name: next((other for depth, other in reversed(shown[:number]) if depth < own), None)
            for number, (own, name) in enumerate(shown)
        }
        written = {
            node.name: ast.unparse(node.bases[0])
            for node in tree.body
            if isinstance(node, ast.ClassDef) and node.bases and is_public(node.name)
        }
        assert {name: parent or "Exception" for name, parent in parents.items()} == written, path
