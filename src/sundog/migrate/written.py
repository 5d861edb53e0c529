"""The text of an imported flow, and what could not be taken over.

Owns the form in which both are written. A flow is bound before anybody sees it: what this room writes is a flow.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from sundog.errors import FlowError
from sundog.flow.bind import bind
from sundog.flow.positions import read_document

COMMENT_WIDTH = 110


@dataclass(slots=True)
class ImportedFlow:
    """A flow that was made of another tool's file."""

    #: As a flow file's data.
    flow: dict[str, Any]
    #: The parts that were not taken over, each with its reason, as a phrase.
    not_taken_over: list[str] = field(default_factory=list)
    #: The things that a reader should know of it, each a sentence.
    remarks: list[str] = field(default_factory=list)

    def leave_out(self, what: str) -> None:
        """Keep what is not taken over, once."""
        if what not in self.not_taken_over:
            self.not_taken_over.append(what)

    def text(self, base_dir: Path, origin: str) -> str:
        """Return the flow file's text; FlowError where what was made is no flow, with all that is wrong. `base_dir`:
        the folder that it will lie in; `origin`: what it was made of."""
        text = f"{self._comments(origin)}{_yaml(self.flow)}"
        document = read_document(text, "the imported flow")
        try:
            bind(document.data, document.positions, base_dir=base_dir)
        except FlowError as error:
            raise FlowError(f"what came of {origin} is no flow:\n{error}", hint=_listed(self.not_taken_over)) from error
        return text

    def _comments(self, origin: str) -> str:
        lines = [f"imported from {origin}", *self.remarks, *(f"not taken over: {what}" for what in self.not_taken_over)]
        return "".join(f"# {part}\n" for line in lines for part in _folded(line))


def flow_name(text: str) -> str:
    """Return a name that a flow takes: letters, digits and `_`.

    >>> flow_name("Sort, then: ask!"), flow_name("2nd"), flow_name("a__b")
    ('Sort_then_ask', 'n_2nd', 'a_b')
    """
    words = "".join(letter if letter.isascii() and letter.isalnum() else " " for letter in text).split()
    name = "_".join(words) or "step"
    return f"n_{name}" if name[0].isdigit() else name


class FreshNames:
    """This class gives each step and table of a flow a name that nothing else has."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def give(self, wish: str) -> str:
        """Return `wish` as a name, with a number where it is taken."""
        name, number = (base := flow_name(wish)), 2
        while name.lower() in self._taken:
            name, number = f"{base}_{number}", number + 1
        self._taken.add(name.lower())
        return name


def _listed(not_taken_over: Iterable[str]) -> str | None:
    return "\n  ".join(f"not taken over: {what}" for what in not_taken_over) or None


def _yaml(flow: Mapping[str, Any]) -> str:
    yaml = YAML()
    yaml.width = 120
    yaml.default_flow_style = False
    written = io.StringIO()
    yaml.dump(_readable(flow), written)
    return written.getvalue()


def _readable(value: Any) -> Any:
    """Return the same with long texts as blocks."""
    match value:
        case str() if "\n" in value.strip("\n"):
            return LiteralScalarString("\n".join(line.rstrip() for line in value.strip("\n").splitlines()) + "\n")
        case Mapping():
            return {key: _readable(item) for key, item in value.items()}
        case list() | tuple():
            return [_readable(item) for item in value]
    return value


def _folded(line: str) -> Iterator[str]:
    words, now = line.split(), ""
    for word in words:
        if now and len(now) + len(word) + 1 > COMMENT_WIDTH:
            yield now
            now = f"  {word}"
        else:
            now = f"{now} {word}" if now else word
    yield now
