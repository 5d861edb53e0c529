"""Python functions by name: plans hold references as text, this module turns them into callables and back.

Owns `module:function` references and the functions that live in this process only (notebooks, lambdas, rows given
directly). Never calls a function.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from hashlib import blake2b
from importlib.machinery import PathFinder
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from sundog.errors import FlowError, suggest

SESSION_PREFIX = "<session>:"
_SESSION: dict[str, Callable[..., Any]] = {}


def is_reference(text: str) -> bool:
    """Return whether `text` has the form `module:function`, or names a function of this process."""
    module, colon, path = text.partition(":")
    return text.startswith(SESSION_PREFIX) or (bool(colon) and _is_dotted(module) and _is_dotted(path))


def resolve_function(reference: str, *, base_dir: str | None) -> Callable[..., Any]:
    """Return the function that `reference` names; modules in `base_dir` (the flow file's folder) come first.

    FlowError where the form is wrong, the module cannot be imported, or it has no such function.
    """
    if reference.startswith(SESSION_PREFIX):
        return _resolve_session(reference)
    if not is_reference(reference):
        raise FlowError(
            f"'{reference}' does not name a function",
            hint="write module:function, as in checks:scale_ok for the function scale_ok in checks.py",
        )
    module_name, _, path = reference.partition(":")
    value: Any = _import(module_name, reference, base_dir)
    for name in path.split("."):
        if not hasattr(value, name):
            raise FlowError(
                f"the function '{reference}' is not there: '{module_name}' has no '{path}'",
                hint=suggest(name, [known for known in dir(value) if not known.startswith("_")]),
            )
        value = getattr(value, name)
    if not callable(value):
        raise FlowError(f"'{reference}' is not a function but of type {type(value).__name__}")
    return value  # type: ignore[no-any-return]  # callable() is the check


def refer_to(function: Callable[..., Any]) -> str:
    """Return a reference that `resolve_function` turns into `function` again.

    `module:name` when it can be imported by that name. Otherwise a name made of its code and of what it captures, known
    in this process only: the same code gives the same reference in every process of one Python version.
    """
    if not isinstance(function, FunctionType | BuiltinFunctionType | type):
        raise FlowError(
            f"a step calls a function, not an object of type {type(function).__name__}",
            hint="wrap it: def step(value): return the_object(value)",
        )
    module, path = function.__module__, function.__qualname__
    if module != "__main__" and _find(sys.modules.get(module), path) is function:
        return f"{module}:{path}"
    if not isinstance(function, FunctionType):
        raise FlowError(f"'{path}' cannot be imported from '{module}'", hint="move it into a module")
    return register_function(function, name=function.__name__, content=_code_of(function))


def register_function(function: Callable[..., Any], *, name: str, content: bytes) -> str:
    """Make `function` known in this process; equal `name` and `content` give the same reference."""
    plain = "".join(letter if letter.isalnum() or letter == "_" else "" for letter in name)
    reference = f"{SESSION_PREFIX}{plain}-{blake2b(content, digest_size=6).hexdigest()}"
    _SESSION[reference] = function
    return reference


def _resolve_session(reference: str) -> Callable[..., Any]:
    if reference not in _SESSION:
        raise FlowError(
            f"the function {reference} belongs to another process",
            hint="run the script or notebook that defines it, or move the function into a module",
        )
    return _SESSION[reference]


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _find(module: ModuleType | None, path: str) -> Any:
    value: Any = module
    for name in path.split("."):
        value = getattr(value, name, None)
    return value


def _import(module: str, reference: str, base_dir: str | None) -> ModuleType:
    if base_dir is not None:
        _put_first(module.partition(".")[0], reference, str(Path(base_dir).resolve()))
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        looked_in = f"looked in {base_dir} first, then in the Python environment" if base_dir else None
        raise FlowError(f"the function '{reference}' cannot be imported: {error}", hint=looked_in) from error
    except Exception as error:  # importing runs the user's module: whatever it raises is the user's to see
        raise FlowError(
            f"importing '{module}' for the function '{reference}' failed: {type(error).__name__}: {error}",
            hint=f"try: python -c 'import {module}'",
        ) from error


def _put_first(top: str, reference: str, folder: str) -> None:
    """Make `folder` the first place to import `top` from, also where another module of that name is loaded."""
    importlib.invalidate_caches()
    own = PathFinder.find_spec(top, [folder])
    if own is None:
        return
    if own.origin is not None and top in sys.stdlib_module_names:
        raise FlowError(
            f"the function '{reference}' cannot be imported: '{top}' is a module of Python itself",
            hint=f"give {own.origin} another name",
        )
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)
    loaded = sys.modules.get(top)
    if loaded is not None and own.origin is not None and getattr(loaded, "__file__", None) != own.origin:
        for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
            del sys.modules[name]


def _code_of(function: FunctionType) -> bytes:
    """Return bytes that decide what the function does: its code, defaults and captured values."""
    captured = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    parts = [(name, _describe(function, name, cell.cell_contents)) for name, cell in captured]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    parts += [("default", _describe(function, "a default", value)) for value in defaults]
    return repr((_describe_code(function.__code__), parts)).encode()


def _describe_code(code: CodeType) -> str:
    """Return the same text in every process of one Python version. Source would not do: two lambdas may share a
    line."""
    constants = [_describe_constant(constant) for constant in code.co_consts]
    return repr((code.co_code, code.co_exceptiontable, code.co_names, code.co_varnames, constants))


def _describe_constant(constant: object) -> str:
    match constant:
        case CodeType():
            return _describe_code(constant)
        case frozenset():  # its order changes from process to process
            return repr(sorted(map(repr, constant)))
    return repr(constant)


def _describe(owner: FunctionType, name: str, value: object) -> str:
    """Return a stable text for a captured value; FlowError where there is none."""
    match value:
        case None | bool() | int() | float() | str() | bytes():
            return repr(value)
        case list() | tuple():
            return repr([_describe(owner, name, item) for item in value])
        case dict():
            return repr([(repr(key), _describe(owner, name, item)) for key, item in value.items()])
        case ModuleType():
            return value.__name__
        case _ if value is owner:
            return "itself"
        case FunctionType() | BuiltinFunctionType() | type():
            return refer_to(value)
    raise FlowError(
        f"the function '{owner.__name__}' captures '{name}', a {type(value).__name__} that has no stable name",
        hint="pass the value as an argument of the step, or move the function into a module",
    )
