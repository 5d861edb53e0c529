"""The files of the flow's folder that a function's code is in: its own module and what that imports from there.

Owns how they are found, by reading them, so that also an import inside a function counts. Never imports anything.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions
from pathlib import Path

from sundog.operators.base import Finding


def digests_of(module: str, folder: Path) -> dict[str, str]:
    """Return, for each file that `module` needs from `folder`, its path below that and a digest; empty for a module
    from elsewhere. A file that cannot be read as Python has a digest and imports nothing."""
    digests = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files_of_module(module, folder)
    }
    return dict(sorted(digests.items()))


def files_of_module(module: str, folder: Path) -> list[Path]:
    """Return the files that `module` needs from `folder`; each stands behind those that it imports."""
    found: list[Path] = []
    seen: set[Path] = set()

    def visit(path: Path) -> None:
        if path in seen:
            return
        seen.add(path)
        for imported in _imports(path.read_bytes(), path.parent.relative_to(folder).parts):
            for needed in _files(imported, folder):
                visit(needed)
        found.append(path)

    for path in _files(module, folder):
        visit(path)
    return found


def found_elsewhere(module: str, folder: Path) -> Finding | None:
    """Return why other machines cannot import `module` (a fatal finding), or what they need for it; None for modules of
    `folder` and of Python itself."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or files_of_module(module, folder):
        return None
    if top in packages_distributions():
        return Finding(f"the package '{top}' must be installed on every machine")
    found = PathFinder.find_spec(top)
    place = "" if found is None or found.origin is None else f" ({found.origin})"
    what = f"its module '{top}'{place} is neither in the flow's folder nor of an installed package"
    return Finding(what, "put it into the flow's folder, or install it on every machine", is_fatal=True)


def _files(module: str, folder: Path) -> Iterator[Path]:
    """Yield the files that importing `module` runs: those of the packages above it, too."""
    place = folder
    for part in module.split("."):
        if not part:
            return
        place = place / part
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                yield path


def _imports(source: bytes, package: tuple[str, ...]) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                base = [*package[: len(package) - node.level + 1]] if node.level else []
                base += [node.module] if node.module else []
                yield ".".join(base)
                yield from (".".join([*base, alias.name]) for alias in node.names)
