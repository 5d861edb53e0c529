"""YAML with positions: plain data, and where in the file each key and value stands.

Owns reading YAML text. Never knows what a flow is.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Protocol

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from sundog.errors import FlowError, Location

DataPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_QUOTE_HINT = 'text that begins with {{ or contains ": " must be quoted, or written as a block after |'


class Positions(Protocol):
    """Where the user wrote what; a path that is not there gives the place of its longest part that is."""

    def key(self, path: DataPath) -> Location: ...

    def value(self, path: DataPath) -> Location: ...

    def match(self, path: DataPath, pattern: re.Pattern[str]) -> Location:
        """The first place inside the value at `path` where `pattern` matches, else the value's place."""
        ...


@dataclass(frozen=True, slots=True)
class Document:
    """`data`: dicts with text keys, lists, text, numbers, truth values and None."""

    data: Any
    positions: Positions


def read_document(text: str, file: str) -> Document:
    """`text` as YAML 1.2; FlowError for what is not plain data, with its place in `file`."""
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except (MarkedYAMLError, ReaderError) as error:
        raise _syntax_error(error, text, file) from error
    except YAMLError as error:
        raise FlowError(f"bad YAML: {error}", where=file) from error
    reader = _Reader(file)
    return Document(None if root is None else reader.plain(root), YamlPositions(root, text, file))


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
        return self._location(node) if found is None else self._at(found.start())

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
        """The mapping's pairs by key, of equal keys the first."""
        if id(node) not in self._pairs:
            self._pairs[id(node)] = {pair[0].value: pair for pair in reversed(node.value)}
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
        self._open: list[Node] = []
        self._constructor = YAML(typ="safe", pure=True).constructor

    def plain(self, node: Node) -> Any:
        if any(node is outer for outer in self._open):
            raise self._error(node, "this value contains itself", "write it out")
        self._open.append(node)
        try:
            match node:
                case MappingNode():
                    return self._mapping(node)
                case SequenceNode():
                    return [self.plain(item) for item in node.value]
            return self._scalar(node)
        finally:
            self._open.pop()

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        self._check_tag(node, "map")
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise self._error(key, "a key must be text", f'templates are quoted: "{{{{ ... }}}}"; {_QUOTE_HINT}')
            if key.tag == f"{_TAG}merge":
                raise self._error(key, "merge keys (<<) are not read here", "write the keys out")
            if key.value in found:
                raise self._error(
                    key, f"the key '{key.value}' is written twice", f"first written in line {lines[key.value]}"
                )
            if isinstance(value, ScalarNode) and value.tag == f"{_TAG}null" and not value.value:
                raise self._error(key, f"the key '{key.value}' has no value", "write null if you mean nothing")
            lines[key.value] = key.start_mark.line + 1
            found[key.value] = self.plain(value)
        return found

    def _scalar(self, node: Node) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        try:
            match kind:
                case "str" | "timestamp":
                    return node.value
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


def _syntax_error(error: MarkedYAMLError | ReaderError, text: str, file: str) -> FlowError:
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        what = f"bad YAML: the character U+{ord(text[error.position]):04X} may not stand in a YAML file"
        return FlowError(what, where=Location(file, line, column), hint="remove it")
    mark = error.problem_mark or error.context_mark
    where = Location(file, mark.line + 1, mark.column + 1) if mark else file
    problem = error.problem or error.context or "it cannot be read"
    if mark and text[mark.index : mark.index + 1] == "\t":
        return FlowError("bad YAML: a tab stands where spaces are needed", where=where, hint="indent with spaces")
    if "undefined alias" in problem:
        return FlowError(f"bad YAML: {problem}", where=where, hint="quote text that begins with *")
    return FlowError(f"bad YAML: {problem}", where=where, hint=_QUOTE_HINT)
