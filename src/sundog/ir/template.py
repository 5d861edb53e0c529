"""Templates as data: source text, the segments it is made of, and what it refers to.

Owns parsing. Never renders; see ir.render.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from jinja2 import TemplateAssertionError, TemplateSyntaxError, meta, nodes
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from sundog.errors import FlowError, suggest
from sundog.ir.environment import ENVIRONMENT

Path = tuple[str, ...]
MAX_KEPT_TEMPLATES = 16_384
"""Parsed ones, and what ir.render makes of them: more than a plan of some thousand steps has."""


@dataclass(frozen=True, slots=True)
class Literal:
    """Text that is the same for every row."""

    text: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A plain path such as `row.topic` or `context[0].body`: ("row", "topic"), ("context", "0", "body")."""

    path: Path


@dataclass(frozen=True, slots=True)
class Computed:
    """Any other expression or block; `paths` are the paths that it reads."""

    paths: frozenset[Path]


Segment = Literal | Reference | Computed


@dataclass(frozen=True, slots=True)
class Template:
    """A Jinja template; equal when the source is equal."""

    source: str

    def __post_init__(self) -> None:
        _parse(self.source)

    @property
    def segments(self) -> tuple[Segment, ...]:
        return _parse(self.source).segments

    @property
    def paths(self) -> frozenset[Path]:
        """Every path read, from the outermost name on."""
        return _parse(self.source).paths

    @property
    def names(self) -> frozenset[str]:
        """The outermost names read: `row`, node names, constants."""
        return _parse(self.source).names

    @property
    def is_expression(self) -> bool:
        """True for exactly one `{{ ... }}`: it yields the value itself and not its text."""
        return _parse(self.source).is_expression

    def __str__(self) -> str:
        return self.source

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _from_yaml, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )


def _from_yaml(value: object) -> Template:
    if isinstance(value, Template):
        return value
    if not isinstance(value, str):
        raise ValueError(f"a template must be text, not {type(value).__name__}")
    try:
        return Template(value)
    except FlowError as error:
        raise ValueError(str(error)) from error


@dataclass(frozen=True, slots=True)
class _Parsed:
    segments: tuple[Segment, ...]
    is_expression: bool
    paths: frozenset[Path] = field(default_factory=frozenset)
    names: frozenset[str] = field(default_factory=frozenset)


@lru_cache(maxsize=MAX_KEPT_TEMPLATES)
def _parse(source: str) -> _Parsed:
    try:
        tree = ENVIRONMENT.parse(source)
        _check_means(tree)
    except TemplateSyntaxError as error:
        raise FlowError(f"template error in line {error.lineno} of the template: {error.message}") from error
    free = meta.find_undeclared_variables(tree)
    segments = tuple(_segments(tree, free))
    is_expression = (
        len(tree.body) == 1
        and isinstance(tree.body[0], nodes.Output)
        and len(tree.body[0].nodes) == 1
        and not isinstance(tree.body[0].nodes[0], nodes.TemplateData)
    )
    paths = frozenset(_paths(tree, free))
    return _Parsed(segments, is_expression, paths, frozenset(path[0] for path in paths))


def _check_means(tree: nodes.Template) -> None:
    """TemplateAssertionError for what parses but can never render here."""
    for node in tree.find_all((nodes.Filter, nodes.Test)):
        kind, known = ("filter", ENVIRONMENT.filters) if isinstance(node, nodes.Filter) else ("test", ENVIRONMENT.tests)
        if node.name not in known:
            raise TemplateAssertionError(f"there is no {kind} '{node.name}'; {suggest(node.name, known)}", node.lineno)
    for file in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        raise TemplateAssertionError("templates cannot read files", file.lineno)


def _segments(tree: nodes.Template, free: set[str]) -> list[Segment]:
    found: list[Segment] = []
    for statement in tree.body:
        parts = statement.nodes if isinstance(statement, nodes.Output) else [statement]
        for part in parts:
            if isinstance(part, nodes.TemplateData):
                found.append(Literal(part.data))
            elif isinstance(part, nodes.Expr) and (path := _path(part)) is not None and path[0] in free:
                found.append(Reference(path))
            else:
                found.append(Computed(frozenset(_paths(part, free))))
    return found


def _path(node: nodes.Node) -> Path | None:
    """The path a node spells, or None where it is no plain chain of names and constants."""
    match node:
        case nodes.Name(name=name):
            return (name,)
        case nodes.Getattr(node=inner, attr=attribute):
            base = _path(inner)
            return None if base is None else (*base, attribute)
        case nodes.Getitem(node=inner, arg=nodes.Const(value=str() | int() as key)):
            base = _path(inner)
            return None if base is None else (*base, str(key))
    return None


def _paths(node: nodes.Node, free: set[str]) -> list[Path]:
    path = _path(node)
    if path is not None:
        return [path] if path[0] in free else []
    return [found for child in node.iter_child_nodes() for found in _paths(child, free)]
