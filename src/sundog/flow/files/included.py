"""Steps of another flow: `include: {flow, nodes, with, prefix}` becomes the steps that it names.

Owns the choice of them, their new names, and where each of them was written. They become steps of this flow like any
other: its rows, engines and tools are theirs, and what they say is part of it. Never binds a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sundog.errors import FlowError, Location, suggest
from sundog.flow.complaints import Complaints
from sundog.flow.files.flow_file import read_flow_file
from sundog.flow.files.included_positions import IncludedPositions
from sundog.flow.positions import DataPath
from sundog.flow.prompt_file import FilePositions, with_prompt_files
from sundog.flow.validation import read
from sundog.ir.templates.substitute import rename
from sundog.ir.templates.template import Template
from sundog.operators.base import OPERATORS

INCLUDE = "include"
MAX_INCLUDES = 1_000
_MARKS = ("{{", "{%")


class IncludeSpec(BaseModel):
    """The steps of another flow that are taken into this one."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    #: A file in the folder of this flow.
    flow: str = Field(min_length=1)
    #: None for all of them.
    nodes: tuple[str, ...] | None = None
    #: Values, or templates that give them, in the place of the other flow's constants.
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    #: Stands before the names of the steps.
    prefix: str = ""


class OtherSteps(BaseModel):
    """The parts of the other flow that count here; it may be one that can be run, or hold steps only."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    nodes: dict[str, Any] = Field(min_length=1)
    constants: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Other:
    """A flow whose steps are taken."""

    nodes: Mapping[str, Any]
    constants: Mapping[str, Any]
    positions: FilePositions


class Including:
    """This class puts the steps of other flows into one. What is wrong goes to `complaints`; `positions` knows
    afterwards where the steps were written. `constants` are the flow's, to which those of the steps are added."""

    def __init__(
        self, base_dir: Path, positions: IncludedPositions, complaints: Complaints, constants: Mapping[str, Any]
    ) -> None:
        self._base_dir = base_dir
        self._positions = positions
        self._complaints = complaints
        self.constants = dict(constants)
        self._num_includes = 0

    def nodes(self, nodes: Mapping[str, Any], path: DataPath, within: tuple[str, ...] = ()) -> dict[str, Any]:
        """Return nodes that stand at `path`, those of loops too, with steps in place of includes. `within`: the flows
        that these nodes come from."""
        found: dict[str, Any] = {}
        for name, data in nodes.items():
            place = (*path, name)
            if isinstance(data, Mapping) and INCLUDE in data:
                self._add(found, self._included(name, data, place, path, within), place)
            else:
                self._add(found, {name: self._with_body(data, place, within)}, place)
        return found

    def _add(self, found: dict[str, Any], steps: Mapping[str, Any], place: DataPath) -> None:
        for name, data in steps.items():
            if name in found:
                what = f"the name '{name}' is taken by a step"
                self._complaints.add(what, self._positions.key(place), "give the include a 'prefix'")
            found.setdefault(name, data)

    def _with_body(self, data: Any, place: DataPath, within: tuple[str, ...]) -> Any:
        match data:
            case {"loop": {"nodes": dict() as body}}:
                inner = self.nodes(body, (*place, "loop", "nodes"), within)
                return {**data, "loop": {**data["loop"], "nodes": inner}}
        return data

    def _included(
        self, name: str, data: Mapping[str, Any], place: DataPath, path: DataPath, within: tuple[str, ...]
    ) -> dict[str, Any]:
        """Return the steps in the place of one include; none after complaining."""
        for key in data:
            if key != INCLUDE:
                self._complaints.add(f"'{key}' cannot stand beside 'include'", self._positions.key((*place, key)))
        block = (*place, INCLUDE)
        spec = read(IncludeSpec, data[INCLUDE], block, self._positions, self._complaints)
        other = None if spec is None else self._other(spec.flow, block, within)
        if spec is None or other is None:
            return {}
        chosen = self._chosen(spec, other, block)
        names = {step: f"{spec.prefix}{step}" for step in chosen if spec.prefix}
        parameters = self._parameters(spec, other, block)
        steps: dict[str, Any] = {}
        for constant, value in parameters.items():
            names[constant] = made = f"{name}_{constant}"
            at: DataPath = (*block, "with", constant)
            if isinstance(value, str) and any(mark in value for mark in _MARKS) and constant in spec.with_:
                steps[made] = {"value": value}
                self._positions.add((*path, made), at)
                self._positions.add((*path, made, "value"), at)
            else:
                self.constants[made] = value
                is_given = constant in spec.with_
                place_of = at if is_given else ("constants", constant)
                self._positions.add(("constants", made), place_of, None if is_given else other.positions)
        for step in chosen:
            new = f"{spec.prefix}{step}"
            self._positions.add((*path, new), ("nodes", step), other.positions)
            inlined = self._with_prompts(other.nodes[step], ("nodes", step), other)
            steps[new] = self._renamed(inlined, names, (*path, new))
        return self.nodes(steps, path, (*within, spec.flow))

    def _other(self, flow: str, block: DataPath, within: tuple[str, ...]) -> _Other | None:
        where = self._positions.value((*block, "flow"))
        path = self._base_dir / flow
        self._num_includes += 1
        if flow in within:
            circle = " -> ".join((*within, flow))
            self._complaints.add(f"flows include each other's steps in a circle: {circle}", where)
        elif self._num_includes > MAX_INCLUDES:
            self._complaints.add(f"a flow includes steps more than {MAX_INCLUDES:,} times", where)
        elif path.parent.resolve() != self._base_dir.resolve():
            what = f"the flow {flow} is not in the folder of this one"
            self._complaints.add(what, where, "paths and functions of both count from one folder")
        else:
            try:
                return self._read(path)
            except FlowError as error:
                at = error.where if isinstance(error.where, Location) else where
                self._complaints.add(error.what, at, error.hint)
        return None

    def _read(self, path: Path) -> _Other | None:
        document = read_flow_file(path)
        found = read(OtherSteps, document.data, (), document.positions, self._complaints)
        if found is None:
            return None
        return _Other(found.nodes, found.constants, FilePositions(document.positions))

    def _chosen(self, spec: IncludeSpec, other: _Other, block: DataPath) -> list[str]:
        """Return the names of the steps, in the order in which the other flow has them."""
        for index, name in enumerate(spec.nodes or ()):
            if name not in other.nodes:
                where = self._positions.value((*block, "nodes", index))
                self._complaints.add(f"{spec.flow} has no step '{name}'", where, suggest(name, other.nodes))
        return [name for name in other.nodes if spec.nodes is None or name in spec.nodes]

    def _parameters(self, spec: IncludeSpec, other: _Other, block: DataPath) -> dict[str, Any]:
        """Return the values of the other flow's constants, those of `with` before its own."""
        for key in spec.with_:
            if key not in other.constants:
                where = self._positions.key((*block, "with", key))
                hint = suggest(key, other.constants) if other.constants else "its `constants` are its parameters"
                self._complaints.add(f"{spec.flow} has no constant '{key}'", where, hint)
        return {key: spec.with_.get(key, value) for key, value in other.constants.items()}

    def _with_prompts(self, data: Any, place: DataPath, other: _Other) -> Any:
        """Return a node with the texts of its prompt files, in which names may change too."""
        if not isinstance(data, Mapping):
            return data
        found = dict(data)
        for key in found.keys() & set(OPERATORS.names()):
            fields = OPERATORS.get(key).Spec.allows_files
            try:
                found[key] = with_prompt_files(found[key], (*place, key), fields, self._base_dir, other.positions)
            except FlowError as error:
                at = error.where if isinstance(error.where, Location) else other.positions.value((*place, key))
                self._complaints.add(error.what, at, error.hint)
        return found

    def _renamed(self, value: Any, names: Mapping[str, str], path: DataPath) -> Any:
        """Return a part of a node with the new names in its templates and `after`."""
        match value:
            case dict() if value:
                return {key: self._renamed(one, names, (*path, key)) for key, one in value.items()}
            case list() if path[-1] == "after":
                return [names.get(one, one) if isinstance(one, str) else one for one in value]
            case list():
                return [self._renamed(one, names, (*path, index)) for index, one in enumerate(value)]
            case str() if any(mark in value for mark in _MARKS):
                return self._renamed_text(value, names, path)
        return value

    def _renamed_text(self, text: str, names: Mapping[str, str], path: DataPath) -> str:
        try:
            found = rename(Template(text), names)
        except FlowError:
            return text  # a wrong template is complained of where the step is read
        if found is None:
            what = "the names in this template cannot be changed for certain"
            hint = "give a name that it binds itself, as `for` and `set` do, another one"
            self._complaints.add(what, self._positions.value(path), hint)
            return text
        return found.source
