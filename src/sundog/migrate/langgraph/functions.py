"""The facts that a node's source tells: the keys of the state that it reads and writes, and the one question that
it asks a model, where it does nothing else.

Owns the reading of source. It calls nothing; what it cannot read stays a function.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

NodeFunction = Callable[..., Any]
_ROLES = {"system": "system", "human": "user", "user": "user", "ai": "assistant", "assistant": "assistant"}
_CLASSES = {"SystemMessage": "system", "HumanMessage": "user", "AIMessage": "assistant"}
_MARKS = ("{{", "{%", "{#")


@dataclass(frozen=True, slots=True)
class ModelQuestion:
    """The one question that a function asks a model."""

    model: Any
    #: (role, parts); a part is text, or the key of the state whose value stands there.
    messages: tuple[tuple[str, tuple[str | StateKey, ...]], ...]
    #: The key under which the answer's text is returned.
    key: str


@dataclass(frozen=True, slots=True)
class StateKey:
    """The value of one key of the state."""

    name: str


@dataclass(frozen=True, slots=True)
class FunctionFacts:
    """The things that are known of a node's function."""

    #: The name of its first parameter.
    parameter: str
    #: Keys that it reads; None where it may read any.
    reads: frozenset[str] | None
    #: Keys that it writes; None where that is not written in its `return`.
    writes: frozenset[str] | None
    #: Keys that each of its returns writes.
    always_writes: frozenset[str]
    question: ModelQuestion | None = None


def facts_of(function: NodeFunction) -> FunctionFacts:
    """Return what the source of a function tells; where there is none, that it may read and write anything."""
    parameter = next(iter(inspect.signature(function).parameters), "state")
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return FunctionFacts(parameter, None, None, frozenset())
    body = tree.body[0]
    if not isinstance(body, ast.FunctionDef | ast.AsyncFunctionDef):
        return FunctionFacts(parameter, None, None, frozenset())
    returned = [_keys(node.value) for node in ast.walk(body) if isinstance(node, ast.Return)]
    known = [keys for keys in returned if keys is not None]
    is_known = bool(known) and len(known) == len(returned)
    return FunctionFacts(
        parameter,
        _reads(body, parameter),
        frozenset().union(*known) if is_known else None,
        frozenset.intersection(*known) if is_known else frozenset(),
        _Reader(function, parameter).question(body),
    )


def _keys(value: ast.expr | None) -> frozenset[str] | None:
    if not isinstance(value, ast.Dict):
        return None
    names = [key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    return frozenset(names) if len(names) == len(value.keys) else None


def _reads(body: ast.AST, parameter: str) -> frozenset[str] | None:
    found = [key for node in ast.walk(body) if (key := _state_key(node, parameter)) is not None]
    num_uses = sum(isinstance(node, ast.Name) and node.id == parameter for node in ast.walk(body))
    return frozenset(key.name for key in found) if len(found) == num_uses else None


def _state_key(node: ast.AST, parameter: str) -> StateKey | None:
    """Return the key that `state["key"]` or `state.get("key")` reads."""
    match node:
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))) if name == parameter:
            return StateKey(key)
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id=name), attr="get"), args=[ast.Constant(value=str(key))], keywords=[]
        ) if name == parameter:
            return StateKey(key)
    return None


class _Reader:
    """This class follows a function that only puts texts together and asks one model."""

    def __init__(self, function: NodeFunction, parameter: str) -> None:
        self._globals: Mapping[str, Any] = getattr(function, "__globals__", {})
        self._parameter = parameter
        self._texts: dict[str, tuple[str | StateKey, ...]] = {}
        self._asked: dict[str, ast.Call] = {}

    def question(self, body: ast.FunctionDef | ast.AsyncFunctionDef) -> ModelQuestion | None:
        """Return the question that the function asks; None where it does anything else."""
        statements = body.body[1:] if ast.get_docstring(body) is not None else body.body
        for statement in statements:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if (call := self._call(value)) is not None:
                    self._asked[name] = call
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if (text := self._text(value)) is not None:
                    self._texts[name] = text
                case ast.Return(value=ast.Dict(keys=[ast.Constant(value=str(key))], values=[value])):
                    return self._answered(key, value)
                case _:
                    return None
        return None

    def _answered(self, key: str, value: ast.expr) -> ModelQuestion | None:
        match value.args[0] if _is_str(value) else value:
            case ast.Attribute(value=ast.Name(id=name), attr="content") if name in self._asked:
                call: ast.Call | None = self._asked[name]
            case ast.Attribute(value=inner, attr="content"):
                call = self._call(inner)
            case _:
                call = None
        if call is None or len(self._asked) > 1 or (messages := self._messages(call.args[0])) is None:
            return None
        assert isinstance(call.func, ast.Attribute), "_call found it"
        assert isinstance(call.func.value, ast.Name), "_call found it"
        return ModelQuestion(self._globals[call.func.value.id], messages, key)

    def _call(self, value: ast.expr) -> ast.Call | None:
        """Return the call of a model of the module, with or without await."""
        match value.value if isinstance(value, ast.Await) else value:
            case (
                ast.Call(
                    func=ast.Attribute(value=ast.Name(id=name), attr="invoke" | "ainvoke"), args=[_], keywords=[]
                ) as call
            ) if is_chat_model(self._globals.get(name)):
                return call
        return None

    def _messages(self, value: ast.expr) -> tuple[tuple[str, tuple[str | StateKey, ...]], ...] | None:
        if (text := self._text(value)) is not None:
            return (("user", text),)
        if not isinstance(value, ast.List):
            return None
        messages = [self._message(element) for element in value.elts]
        return tuple(message for message in messages if message is not None) if all(messages) else None

    def _message(self, value: ast.expr) -> tuple[str, tuple[str | StateKey, ...]] | None:
        match value:
            case ast.Tuple(elts=[ast.Constant(value=str(role)), content]):
                pass
            case ast.Call(func=ast.Name(id=name), args=[content], keywords=[]) if name in _CLASSES:
                role = _CLASSES[name]
            case ast.Call(func=ast.Name(id=name), args=[], keywords=[ast.keyword(arg="content", value=content)]) if (
                name in _CLASSES
            ):
                role = _CLASSES[name]
            case ast.Dict() if (parts := _fields(value)).keys() == {"role", "content"}:
                role, content = str(getattr(parts["role"], "value", "")), parts["content"]
            case _:
                return None
        text = self._text(content)
        return None if text is None or role not in _ROLES else (_ROLES[role], text)

    def _text(self, value: ast.expr) -> tuple[str | StateKey, ...] | None:
        """Return the parts of a text; None for what is put together in another way."""
        match value:
            case ast.Constant(value=str(text)) if not any(mark in text for mark in _MARKS):
                return (text,)
            case ast.JoinedStr(values=parts):
                return self._joined(parts)
            case ast.FormattedValue(value=inner, conversion=-1, format_spec=None):
                return self._text(inner)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._joined([left, right])
            case ast.Name(id=name) if name in self._texts:
                return self._texts[name]
            case ast.Name(id=name) if isinstance(known := self._globals.get(name), str):
                return None if any(mark in known for mark in _MARKS) else (known,)
        key = _state_key(value, self._parameter)
        return None if key is None else (key,)

    def _joined(self, values: list[ast.expr]) -> tuple[str | StateKey, ...] | None:
        parts = [self._text(value) for value in values]
        return None if None in parts else tuple(piece for part in parts for piece in part or ())


def _is_str(value: ast.expr) -> TypeGuard[ast.Call]:
    """Return whether it is `str(...)` of one thing: a model's text is text."""
    match value:
        case ast.Call(func=ast.Name(id="str"), args=[_], keywords=[]):
            return True
    return False


def _fields(value: ast.Dict) -> dict[str, ast.expr]:
    return dict(_constant_fields(value))


def _constant_fields(value: ast.Dict) -> Iterator[tuple[str, ast.expr]]:
    for key, inner in zip(value.keys, value.values, strict=True):
        if isinstance(key, ast.Constant):
            yield str(key.value), inner


def is_chat_model(value: Any) -> bool:
    """Return whether an object is a chat model of LangChain, which need not be installed here."""
    return any(kind.__name__ == "BaseChatModel" for kind in type(value).__mro__)
