"""Templates as data: source text, the segments it is made of, and what it refers to.

Owns parsing. Never renders; see ir.templates.render.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from typing import Any, NoReturn, TypeVar

from jinja2 import TemplateAssertionError, TemplateSyntaxError, meta, nodes
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from sundog.errors import FlowError, suggest
from sundog.ir.templates.environment import ENVIRONMENT, FILTERS, TESTS

Path = tuple[str, ...]
ROW, ITEM, LOOP = "row", "item", "loop"
"""The names that the language gives: of the input row, of the element of a `for_each` and of the state of a loop."""
SAMPLE = "\0sample"
"""The number of a sample among those of its row, from 0: a name that no template can spell."""
MAX_KEPT_TEMPLATES = 16_384
"""Parsed ones, and what ir.templates.render makes of them: more than a plan of some thousand steps has."""
SyntaxNode = TypeVar("SyntaxNode", bound=nodes.Node)


def spell_path(path: Path) -> str:
    """Return a path as a user writes it: ("context", "0", "body") is `context[0].body`."""
    return path[0] + "".join(f"[{key}]" if key.isdigit() else f".{key}" for key in path[1:])


def column_of_row(name: str) -> str:
    """Return the expression of a row's column.

    >>> column_of_row("note"), column_of_row("first name")
    ('row.note', "row['first name']")
    """
    return f"row.{name}" if name.isidentifier() else f"row[{name!r}]"


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
            template_of, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )


def template_of(value: object) -> Template:
    """Return what a user wrote as a template; ValueError where it is none."""
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
        depth = _depth(tree)
        if depth > MAX_DEPTH:
            raise _too_deep()
        _check_means(tree)
        free = meta.find_undeclared_variables(tree)
        segments = tuple(_segments(tree, free))
        if depth > _SURELY_COMPILES:
            ENVIRONMENT.from_string(source)
    except TemplateSyntaxError as error:
        raise FlowError(f"template error in line {error.lineno} of the template: {error.message}") from error
    except (RecursionError, SyntaxError, MemoryError) as error:
        # Jinja's parser and the compilers of Jinja and of Python go down into what is nested.
        raise _too_deep() from error
    except ValueError as error:  # of a number that Python does not read
        raise FlowError(f"template error: {error}") from error
    is_expression = (
        len(tree.body) == 1
        and isinstance(tree.body[0], nodes.Output)
        and len(tree.body[0].nodes) == 1
        and not isinstance(tree.body[0].nodes[0], nodes.TemplateData)
    )
    paths = frozenset(_paths(tree, free))
    return _Parsed(segments, is_expression, paths, frozenset(path[0] for path in paths))


def _check_means(tree: nodes.Template) -> None:
    """Raise TemplateAssertionError for what parses but can never render here."""
    _check_loops(tree)
    for number in tree.find_all(nodes.Const):
        if isinstance(number.value, float) and not isfinite(number.value):
            raise TemplateAssertionError("a number that large is no JSON number", number.lineno)
    for node in tree.find_all((nodes.Filter, nodes.Test)):
        kind, known = ("filter", FILTERS) if isinstance(node, nodes.Filter) else ("test", TESTS)
        if node.name not in known:
            raise TemplateAssertionError(f"there is no {kind} '{node.name}'; {suggest(node.name, known)}", node.lineno)
    for file in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        raise TemplateAssertionError("templates cannot read files", file.lineno)


# The attributes that Jinja's own `loop` has inside `{% for %}`.
_FOR_LOOP = frozenset(
    {
        *("index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0"),
        *("cycle", "changed", "previtem", "nextitem"),
    }
)


def _check_loops(tree: nodes.Template) -> None:
    """Raise TemplateAssertionError where `loop` means that of the flow and is that of `{% for %}`."""
    for loop in tree.find_all(nodes.For):
        for part in loop.body:
            for node in _with_inner(part, nodes.Getattr):
                match _path(node):
                    case ("loop", "last", field):
                        _refuse_loop(f"loop.last.{field}", node.lineno)
                    case ("loop", field) if field not in _FOR_LOOP:
                        _refuse_loop(f"loop.{field}", node.lineno)


def _refuse_loop(path: str, line: int) -> NoReturn:
    raise TemplateAssertionError(
        f"inside {{% for %}} 'loop' is the loop of the template, which has no '{path.partition('.')[2]}'; "
        f"keep the flow's before it: {{% set kept = {path} %}}",
        line,
    )


def _with_inner(node: nodes.Node, kind: type[SyntaxNode]) -> Iterator[SyntaxNode]:
    if isinstance(node, kind):
        yield node
    yield from node.find_all(kind)


MAX_DEPTH = 100
_SURELY_COMPILES = 20
"""Levels. Python's own limits (20 nested loops, 200 brackets) are met only where a template is deeper than this."""


def _depth(tree: nodes.Template) -> int:
    """Return the number of levels of the syntax tree: brackets, blocks, and each term of a chain such as a + b + c."""
    level: list[nodes.Node] = [tree]
    depth = 0
    while level:
        level = [child for node in level for child in node.iter_child_nodes()]
        depth += 1
    return depth


def _too_deep() -> FlowError:
    return FlowError(
        f"template error: it is nested deeper than {MAX_DEPTH} levels",
        hint="split it up, with {% set part = ... %}; long sums are written with | sum or | join",
    )


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
    """Return the path a node spells, or None where it is no plain chain of names and constants."""
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
