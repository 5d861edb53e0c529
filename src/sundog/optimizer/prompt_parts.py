"""The prompts of a plan's LLM steps as parts: text, and values with the row's values that decide them.

Owns what decides a value. Never renders anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sundog.cost.row_statistics import RowFields
from sundog.ir.conversations.written import FROM, PART_ROLES
from sundog.ir.graph import nearest, topological_order
from sundog.ir.logical import (
    Node,
    Step,
    Table,
    ValueNode,
    steps_of,
    templates_of,
)
from sundog.ir.physical import Sharing
from sundog.ir.templates.template import ROW, Computed, Literal, Path, Reference, Segment, Template, spell_path
from sundog.optimizer.facts import PlanFacts

_WORDS = {"image": "the image", "file": "the file"}
MAX_PARTS_OF_VALUE = 64
"""Values that read values twice would grow without end; a longer one is one part."""


@dataclass(frozen=True, slots=True)
class FixedText:
    """The same for every row."""

    text: str


@dataclass(frozen=True, slots=True)
class Value:
    """The text that an expression gives. Two are the same where all is equal."""

    #: Names it to the user.
    label: str
    #: Values of the row that decide it, so that rows equal in them share its text: none where it is the same for every
    #: row, None where each call has its own.
    fields: RowFields | None
    #: The value of the row that it is itself, None where it is none.
    path: Path | None = None
    #: A tool finds it by `fields`.
    is_lookup: bool = False
    #: Tells apart what has one label and may differ, as the elements of two lists.
    place: str = ""
    #: A list of messages, a picture or a document, which is no text that another place of a prompt could hold.
    is_whole: bool = False


Part = FixedText | Value


@dataclass(frozen=True, slots=True)
class MessageParts:
    """One message of a prompt: its role, then its parts, no two texts side by side."""

    #: Empty where the part is a list of messages.
    role: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class StepPrompt:
    """The messages of an LLM step."""

    step: str
    messages: tuple[MessageParts, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """All of it as the engine sees it, roles included."""
        parts: list[Part] = []
        for message in self.messages:
            parts += (FixedText(f"{message.role}\n"), *message.parts, FixedText("\n"))
        return merged(parts)


def prompts_of(table: Table, constants: Mapping[str, Any], facts: PlanFacts) -> dict[str, tuple[StepPrompt, ...]]:
    """Return the prompts of all LLM steps of a table, by the pool that serves them, as written."""
    reader = _Reader(table, constants, facts)
    found: dict[str, list[StepPrompt]] = {}
    for step in steps_of(table.nodes):
        traits = facts.traits(step)
        if traits.conversation:
            messages = tuple(reader.message(step.name, role, template) for role, template in traits.conversation)
            found.setdefault(traits.pool, []).append(StepPrompt(step.name, messages))
    return {pool: tuple(prompts) for pool, prompts in found.items()}


def merged(parts: list[Part]) -> tuple[Part, ...]:
    """Return `parts` with neighbouring texts made one, and no empty ones."""
    found: list[Part] = []
    for part in parts:
        match found, part:
            case [*_, FixedText(text=first)], FixedText(text=second):
                found[-1] = FixedText(first + second)
            case _, FixedText(text=""):
                pass
            case _:
                found.append(part)
    return tuple(found)


class _Reader:
    def __init__(self, table: Table, constants: Mapping[str, Any], facts: PlanFacts) -> None:
        self._constants = constants
        self._joined = set(table.joined)
        self._facts = facts
        self._nodes: Mapping[str, Node] = {node.name: node for node in table.nodes}
        self._known: dict[str, RowFields | None] = {}
        self._texts: dict[str, list[Part]] = {}
        # In the order in which they read each other, so that a long chain is no deep recursion.
        for node in topological_order(table.nodes, nearest(table.nodes)):
            match node:
                case Step() if facts.sharing(node) is not Sharing.NEVER:
                    self._known[node.name] = self._fields_of_node(node)
                case ValueNode():
                    self._known[node.name] = self._fields_of_node(node)
                    self._see_through(node)

    def message(self, step: str, role: str, template: Template) -> MessageParts:
        if role == FROM or PART_ROLES.get(role, ("text",))[0] != "text":
            return MessageParts("", (self._whole(step, role, template),))
        return MessageParts(role, merged(self._parts(step, template)))

    def _whole(self, step: str, role: str, template: Template) -> Value:
        """Return a list of messages, a picture or a document as one value."""
        match template.segments:
            case [Reference(path=(name, _, *_) as path)] if name == ROW:
                return Value(spell_path(path), frozenset({path}), path, place=role, is_whole=True)
        read = ", ".join(sorted(map(spell_path, template.paths))) or step
        label = f"{_WORDS.get(role.partition(':')[0], 'the messages')} of {read}"
        return Value(label, self._fields(template.paths), place=f"{step} {role} {template.source}", is_whole=True)

    def _see_through(self, node: ValueNode) -> None:
        """Keep the parts of the text of a value that each row has, which stand in a prompt in place of its name."""
        if node.when is None and node.for_each is None:
            parts = self._parts(node.name, node.template)
            if len(parts) <= MAX_PARTS_OF_VALUE:
                self._texts[node.name] = parts

    def _parts(self, step: str, template: Template) -> list[Part]:
        parts: list[Part] = []
        for number, segment in enumerate(template.segments):
            match segment:
                case Reference(path=(name,)) if name in self._texts:
                    parts += self._texts[name]
                case _:
                    parts.append(self._part(step, template, number, segment))
        return parts

    def _part(self, step: str, template: Template, number: int, segment: Segment) -> Part:
        match segment:
            case Literal(text=text):
                return FixedText(text)
            case Reference(path=(name,)) if isinstance(self._constants.get(name), str):
                return FixedText(self._constants[name])
            case Reference(path=path):
                if path[0] == ROW and len(path) > 1:
                    return Value(spell_path(path), frozenset({path}), path)
                place = "" if path[0] in self._nodes or path[0] in self._constants else step
                return Value(spell_path(path), self._fields({path}), None, self._is_lookup({path}), place)
            case Computed(paths=paths):
                label = f"an expression of {', '.join(sorted(map(spell_path, paths)))}"
                place = f"{step} {number} {template.source}"
                return Value(label, self._fields(paths), None, self._is_lookup(paths), place)

    def _fields(self, paths: set[Path] | frozenset[Path]) -> RowFields | None:
        """Return the values of the row that decide what stands at `paths`; None where something else does too."""
        found: set[Path] = set()
        for path in paths:
            fields = self._fields_of(path)
            if fields is None:
                return None
            found |= fields
        return frozenset(found)

    def _fields_of(self, path: Path) -> RowFields | None:
        name = path[0]
        if name == ROW:
            # Whole columns: what follows may be a method.
            return frozenset({path[: 3 if path[1] in self._joined else 2]}) if len(path) > 1 else None
        if name in self._constants:
            return frozenset()
        return self._known.get(name)  # None also for what is no step: an element, a loop's turn

    def _fields_of_node(self, node: Step | ValueNode) -> RowFields | None:
        own = node.for_each.variable if node.for_each else None
        paths = {path for template in templates_of(node) for path in template.paths if path[0] != own}
        return self._fields(paths)

    def _is_lookup(self, paths: set[Path] | frozenset[Path]) -> bool:
        nodes = [self._nodes[path[0]] for path in paths if path[0] in self._nodes]
        return any(isinstance(node, Step) and self._facts.traits(node).engine is None for node in nodes)
