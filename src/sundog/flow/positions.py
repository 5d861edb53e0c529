"""YAML with positions: plain data, and where in the file each key and value stands.

Owns reading YAML text. Never knows what a flow is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from sundog.errors import FlowError, Location

DataPath = tuple[str | int, ...]

MAX_DEPTH = 100
"""Levels of lists and mappings."""
MAX_COPIES = 100_000
"""Values that aliases may add to those that are written out."""

_HALF = re.compile("[\ud800-\udfff]")
_TAG = "tag:yaml.org,2002:"
_QUOTE_HINT = 'text that begins with {{ or contains ": " must be quoted, or written as a block after |'


class Positions(Protocol):
    """This class says where the user wrote what; a path that is not there gives the place of its longest part that
    is."""

    def key(self, path: DataPath) -> Location: ...

    def value(self, path: DataPath) -> Location: ...

    def match(self, path: DataPath, pattern: re.Pattern[str]) -> Location:
        """Return the first place inside the value at `path` where `pattern` matches (of a pattern with a group `at`,
        where that stands), else the value's place."""
        ...


@dataclass(frozen=True, slots=True)
class FlowDocument:
    """The data of a file, and where each part of it stands."""

    #: Dicts with text keys, lists, text, numbers, truth values and None.
    data: Any
    positions: Positions


def read_document(text: str, file: str) -> FlowDocument:
    """Return `text` as YAML 1.2; FlowError for what is not plain data, with its place in `file`."""
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = MAX_DEPTH
    yaml.composer.warn_double_anchors = False  # YAML 1.2 allows it: an alias means the anchor above it
    try:
        root = yaml.compose(text)
    except (MarkedYAMLError, ReaderError) as error:
        raise _syntax_error(error, text, file) from error
    except Exception as error:  # the library raises KeyError and others for what its authors did not expect
        raise _unreadable(error, text, file) from error
    reader = _Reader(file)
    return FlowDocument(None if root is None else reader.plain(root), YamlPositions(root, text, file))


class YamlPositions:
    """Positions in one YAML file."""

    def __init__(self, root: Node | None, text: str, file: str) -> None:
        self._root = root
        self._text = text
        self._file = file
        self._pairs: dict[int, dict[Any, tuple[Node, Node]]] = {}

    def key(self, path: DataPath) -> Location:
        return self._location(self._find(path)[0])

    def value(self, path: DataPath) -> Location:
        return self._location(self._find(path)[1])

    def match(self, path: DataPath, pattern: re.Pattern[str]) -> Location:
        node = self._find(path)[1]
        if node is None:
            return self._location(node)
        found = pattern.search(self._text, node.start_mark.index, node.end_mark.index)
        return (
            self._location(node) if found is None else self._at(found.start("at" if "at" in pattern.groupindex else 0))
        )

    def _find(self, path: DataPath) -> tuple[Node | None, Node | None]:
        key, value = self._root, self._root
        for part in path:
            match value:
                case MappingNode():
                    pair = self._pairs_of(value).get(part)
                    if pair is None:
                        return key, value
                    key, value = pair
                case SequenceNode() if isinstance(part, int) and part < len(value.value):
                    key = value = value.value[part]
                case _:
                    return key, value
        return key, value

    def _pairs_of(self, node: MappingNode) -> dict[Any, tuple[Node, Node]]:
        """Return the mapping's pairs by key, of equal keys the first."""
        if id(node) not in self._pairs:
            self._pairs[id(node)] = {pair[0].value: pair for pair in reversed(list(_pairs(node)))}
        return self._pairs[id(node)]

    def _location(self, node: Node | None) -> Location:
        if node is None:
            return Location(self._file, 1, 1)
        return Location(self._file, node.start_mark.line + 1, node.start_mark.column + 1)

    def _at(self, index: int) -> Location:
        before = self._text[:index]
        return Location(self._file, before.count("\n") + 1, index - before.rfind("\n"))


class _Reader:
    """Nodes to plain data. A node that is referred to twice is read twice: plans share nothing mutable."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._read: set[int] = set()
        self._num_copies = 0
        self._open: list[Node] = []
        self._constructor = YAML(typ="safe", pure=True).constructor

    def plain(self, node: Node) -> Any:
        """Return the data of `node` as dicts, lists and scalars. FlowError where it contains itself, or is too deep or
        too large."""
        if any(node is outer for outer in self._open):
            raise self._error(node, "this value contains itself", "write it out")
        if len(self._open) > MAX_DEPTH:
            raise self._error(node, f"this value is nested deeper than {MAX_DEPTH} levels", "aliases count too")
        self._count(node)
        self._open.append(node)
        try:
            match node:
                case MappingNode():
                    return self._mapping(node)
                case SequenceNode():
                    return [self.plain(item) for item in node.value]
            assert isinstance(node, ScalarNode)
            return self._scalar(node)
        finally:
            self._open.pop()

    def _count(self, node: Node) -> None:
        if id(node) not in self._read:
            self._read.add(id(node))
            return
        self._num_copies += 1
        if self._num_copies > MAX_COPIES:
            hint = "refer to fewer values, or to smaller ones"
            raise self._error(node, f"aliases repeat more than {MAX_COPIES:,} values, this one among them", hint)

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        self._check_tag(node, "map")
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in _merged_first(node):
            if not isinstance(key, ScalarNode):
                raise self._error(key, "a key must be text", f'templates are quoted: "{{{{ ... }}}}"; {_QUOTE_HINT}')
            if _is_merge(key):
                for mapping in self._merged(value):
                    found = {**mapping, **found}
                continue
            name = self._text(key)
            if name in lines:
                raise self._error(key, f"the key '{name}' is written twice", f"first written in line {lines[name]}")
            if isinstance(value, ScalarNode) and value.tag == f"{_TAG}null" and not value.value:
                raise self._error(key, f"the key '{name}' has no value", "write null if you mean nothing")
            lines[name] = key.start_mark.line + 1
            found[name] = self.plain(value)
        return found

    def _merged(self, node: Node) -> list[dict[str, Any]]:
        """Return the mappings whose keys are taken over, the one that counts most first."""
        mappings = node.value if isinstance(node, SequenceNode) else [node]
        for one in mappings:
            if not isinstance(one, MappingNode):
                raise self._error(one, "'<<' takes over the keys of a mapping, or of a list of mappings", None)
        return [self.plain(one) for one in mappings]

    def _scalar(self, node: ScalarNode) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        try:
            match kind:
                case "str" | "timestamp":
                    return self._text(node)
                case "null":
                    return None
                case "bool":
                    return self._constructor.construct_yaml_bool(node)
                case "int":
                    return self._constructor.construct_yaml_int(node)
                case "float":
                    return self._finite(node, self._constructor.construct_yaml_float(node))
        except (ValueError, LookupError) as error:
            raise self._error(node, f"'{node.value}' is no {kind}", None) from error
        raise self._tag_error(node)

    def _text(self, node: ScalarNode) -> str:
        """Return what is written; the two halves of a character, as JSON escapes it, are that character."""
        text: str = node.value
        if not text.isascii() and _HALF.search(text) is not None:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            if "\ufffd" in text and "\ufffd" not in node.value:
                raise self._error(node, "this text holds half a character (a lone surrogate)", "write the whole one")
        return text

    def _finite(self, node: Node, number: float) -> float:
        if not math.isfinite(number):
            raise self._error(node, f"JSON has no number {node.value}", "quote it to make it text")
        return number

    def _check_tag(self, node: Node, kind: str) -> None:
        if node.tag != _TAG + kind:
            raise self._tag_error(node)

    def _tag_error(self, node: Node) -> FlowError:
        tag = str(node.tag).replace(_TAG, "!!")
        return self._error(node, f"the tag {tag} is not read here", "write plain text, numbers, lists and mappings")

    def _error(self, node: Node, what: str, hint: str | None) -> FlowError:
        where = Location(self._file, node.start_mark.line + 1, node.start_mark.column + 1)
        return FlowError(what, where=where, hint=hint)


def _is_merge(key: Node) -> bool:
    return key.tag == f"{_TAG}merge"


def _merged_first(node: MappingNode) -> list[tuple[Node, Node]]:
    """Return the pairs of a mapping, what it takes over first: its own keys count more and may stand anywhere."""
    return sorted(node.value, key=lambda pair: not _is_merge(pair[0]))


def _pairs(node: MappingNode) -> Iterator[tuple[Node, Node]]:
    """Yield the pairs of a mapping that count, then those that it takes over."""
    yield from (pair for pair in node.value if not _is_merge(pair[0]))
    for key, value in node.value:
        if _is_merge(key):
            for one in value.value if isinstance(value, SequenceNode) else [value]:
                yield from _pairs(one)


def _unreadable(error: Exception, text: str, file: str) -> FlowError:
    """Return the error for what the library gave up on without saying where: directives (`%`), as far as anybody has
    seen."""
    directive = re.search(r"^%.*", text, re.MULTILINE)
    if directive is not None:
        where = Location(file, text.count("\n", 0, directive.start()) + 1, 1)
        return FlowError("bad YAML: this directive is not read here", where=where, hint="take out the line")
    what = "it is nested too deeply" if isinstance(error, RecursionError) else f"{type(error).__name__}: {error}"
    return FlowError(f"bad YAML: {what}", where=Location(file, 1, 1))


def _syntax_error(error: MarkedYAMLError | ReaderError, text: str, file: str) -> FlowError:
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        what = f"bad YAML: the character U+{ord(text[error.position]):04X} may not stand in a YAML file"
        return FlowError(what, where=Location(file, line, column), hint="remove it")
    mark = error.problem_mark or error.context_mark
    where = Location(file, mark.line + 1, mark.column + 1) if mark else file
    problem = error.problem or error.context or "it cannot be read"
    if "incompatible YAML" in problem:
        return _unreadable(error, text, file)
    if "maximum depth" in problem:
        return FlowError(f"bad YAML: it is nested deeper than {MAX_DEPTH} levels", where=where)
    if mark and text[mark.index : mark.index + 1] == "\t":
        return FlowError("bad YAML: a tab stands where spaces are needed", where=where, hint="indent with spaces")
    if "undefined alias" in problem:
        return FlowError(f"bad YAML: {problem}", where=where, hint="quote text that begins with *")
    return FlowError(f"bad YAML: {problem}", where=where, hint=_QUOTE_HINT)
