"""Searches in the documentation that the standard library of this Python carries with it, for an agent."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

MAX_CHARACTERS = 1500
MAX_FOUND = 12


def search(modules: list[str], word: str) -> list[dict[str, str]]:
    """Return the public names of `modules` that have `word` in their name or documentation, names first."""
    word = word.casefold().strip()
    if not word:
        raise ValueError("give a word to search for")
    by_name, by_text = [], []
    for module in modules:
        for name, value in public(module):
            line = {"name": f"{module}.{name}", "says": first_line(value)}
            if word in name.casefold():
                by_name.append(line)
            elif word in (inspect.getdoc(value) or "").casefold():
                by_text.append(line)
    return (by_name + by_text)[:MAX_FOUND]


def read(modules: list[str], name: str) -> dict[str, Any]:
    """Return signature and documentation of `module`, `module.name` or `module.Class.name`, cut at MAX_CHARACTERS."""
    module = name.partition(".")[0]
    if module not in modules:
        raise ValueError(f"{module!r} is none of these modules: {', '.join(modules)}")
    value: Any = importlib.import_module(module)
    for part in name.split(".")[1:]:
        if part.startswith("_") or not hasattr(value, part):
            raise ValueError(f"{name!r} is not there: search for a word of it")
        value = getattr(value, part)
    return {"name": name, "signature": signature(value), "says": (inspect.getdoc(value) or "")[:MAX_CHARACTERS]}


def exists(modules: list[str], name: str) -> bool:
    """Return whether `read` finds `name`, so that an answer names nothing that is not there."""
    try:
        read(modules, name)
    except ValueError:
        return False
    return True


def public(module: str) -> list[tuple[str, Any]]:
    """Return the functions and classes that a module offers, by name."""
    found = importlib.import_module(module)
    names = getattr(found, "__all__", None) or [name for name in vars(found) if not name.startswith("_")]
    offered = [(name, getattr(found, name)) for name in sorted(names)]
    return [(name, value) for name, value in offered if inspect.isroutine(value) or inspect.isclass(value)]


def first_line(value: Any) -> str:
    """Return what a name is for, in the first line of its documentation."""
    return (inspect.getdoc(value) or "").partition("\n")[0]


def signature(value: Any) -> str:
    """Return the parameters as text, or nothing where Python does not know them."""
    try:
        return str(inspect.signature(value))
    except (TypeError, ValueError):
        return ""
