"""Modules of the flow's folder that were edited after this process had loaded them, as happens in notebooks.

Owns how that is noticed, and their loading anew. A run is known by the files as they are, so that what runs must be
what they say. Modules from elsewhere are left alone.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from sundog.functions import SESSION_PREFIX, is_reference, resolve_function
from sundog.operators.own_modules import files_of_module

_KNOWN: dict[Path, bytes] = {}
"""By file, the digest of what this process has loaded of it."""


def resolve_as_written(reference: str, base_dir: Path) -> Callable[..., Any]:
    """Return the function that `reference` names, as its files are now; FlowError as `resolve_function` has it.

    Where a file of the flow's folder that it needs was edited since it was loaded, all of them are loaded anew, and are
    the same module objects afterwards.
    """
    module, folder = reference.partition(":")[0], base_dir.resolve()
    if is_reference(reference) and not reference.startswith(SESSION_PREFIX):
        loaded = list(_loaded(module, folder))
        if any(_is_edited(one, path) for one, path in loaded):
            _load_anew([one for one, _ in loaded])
    function = resolve_function(reference, base_dir=str(base_dir))
    for _, path in _loaded(module, folder):
        _KNOWN[path] = _digest(path)
    return function


def _load_anew(modules: Sequence[ModuleType]) -> None:
    """Load modules anew, what is imported before what imports it, which has copies of its names. Where one cannot be
    loaded, it and those behind it are forgotten: whoever imports them next hears why."""
    importlib.invalidate_caches()
    waiting = list(modules)
    try:
        while waiting:
            importlib.reload(waiting[0])
            waiting.pop(0)
    except Exception:  # of the user's code; the import that follows tells it
        for module in waiting:
            sys.modules.pop(module.__name__, None)
            package, _, name = module.__name__.rpartition(".")
            if package in sys.modules:
                vars(sys.modules[package]).pop(name, None)


def _loaded(module: str, folder: Path) -> Iterator[tuple[ModuleType, Path]]:
    for path in files_of_module(module, folder):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found = sys.modules.get(name)
        if found is not None and getattr(found, "__file__", None) == str(path):
            yield found, path


def _is_edited(module: ModuleType, path: Path) -> bool:
    if path in _KNOWN:
        return _KNOWN[path] != _digest(path)
    # It was loaded by somebody else. Only a loader that takes a file as it is leaves code that can be compared.
    if type(getattr(module.__spec__, "loader", None)) is not SourceFileLoader:
        return False
    try:
        whole = compile(path.read_bytes(), path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return True
    written = {code.co_qualname: code for code in _codes(whole)}
    return any(
        written.get(code.co_qualname) != code
        for value in vars(module).values()
        if isinstance(value, FunctionType) and (code := value.__code__).co_filename == str(path)
    )


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
