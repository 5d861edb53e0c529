"""Documents: what the Python standard library says of itself, taken from the running interpreter.

One document for each public module, class and function with a docstring of some length. They differ between Python
versions, which is why results name the version.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from halo.data.database import Table

DOCUMENT = {
    "id": "integer",
    "title": "text",
    "module": "text",
    "kind": "text",
    "num_words": "integer",
    "body": "text",
}
MIN_CHARACTERS = 150
MAX_CHARACTERS = 4_000
# They print, open a browser or a window, or are about to leave the library.
LEFT_OUT = {"antigravity", "this", "idlelib", "tkinter", "turtle", "turtledemo", "lib2to3", "test", "distutils"}


def tables() -> list[Table]:
    rows = [
        (number, title, module, kind, len(body.split()), body)
        for number, (title, module, kind, body) in enumerate(sorted(_documents().values()), start=1)
    ]
    return [Table("document", DOCUMENT, rows, ("title",), searches="body")]


def titles() -> list[str]:
    return sorted(_documents())


def _documents() -> dict[str, tuple[str, str, str, str]]:
    found: dict[str, tuple[str, str, str, str]] = {}
    for module in _modules():
        for title, kind, value in _things(module):
            body = " ".join((inspect.getdoc(value) or "").split())[:MAX_CHARACTERS]
            if len(body) >= MIN_CHARACTERS:
                found.setdefault(title, (title, module.__name__, kind, body))
    return found


def _modules() -> Iterator[ModuleType]:
    for name in sorted(sys.stdlib_module_names):
        if name.startswith("_") or name in LEFT_OUT:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                yield importlib.import_module(name)
        except ImportError:
            """A module of another system, as winreg or msvcrt."""


def _things(module: ModuleType) -> Iterator[tuple[str, str, Any]]:
    yield module.__name__, "module", module
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        title = f"{module.__name__}.{name}"
        if inspect.isclass(value):
            yield title, "class", value
            for part, method in sorted(vars(value).items()):
                if inspect.isfunction(method) and not part.startswith("_"):
                    yield f"{title}.{part}", "method", method
        elif inspect.isroutine(value):
            yield title, "function", value
