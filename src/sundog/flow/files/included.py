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


class ToolFlowSpec(BaseModel):
    """The flow that a tool is."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    #: A file in the folder of this flow.
    file: str = Field(min_length=1)
    #: The output whose value the model is told; None for all of them.
    output: str | None = None
    #: As of an include.
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")


class OtherSteps(BaseModel):
    """The parts of the other flow that count here; it may be one that can be run, or hold steps only."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    nodes: dict[str, Any] = Field(min_length=1)
    constants: dict[str, Any] = Field(default_factory=dict)
    outputs: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Other:
    """A flow whose steps are taken."""

    nodes: Mapping[str, Any]
    constants: Mapping[str, Any]
    outputs: Mapping[str, Any]
    positions: FilePositions


@dataclass(slots=True)
class _Taken:
    """Steps of another flow with the names that they have here."""

    #: Steps in the place of constants, that give what `with` says.
    given: dict[str, Any]
    steps: dict[str, Any]
    #: The names that changed, of steps and constants.
    names: Mapping[str, str]


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
        other = None if spec is None else self._other(spec.flow, (*block, "flow"), within)
        if spec is None or other is None:
            return {}
        taken = self._taken(name, spec, other, block, path, path)
        return self.nodes({**taken.given, **taken.steps}, path, (*within, spec.flow))

    def flow_of_tool(self, name: str, data: Any, block: DataPath) -> dict[str, Any] | None:
        """Return the flow that a tool is, which is written at `block`, with its steps; None after complaining."""
        spec = read(ToolFlowSpec, data, block, self._positions, self._complaints)
        other = None if spec is None else self._other(spec.file, (*block, "file"), (), is_whole=True)
        if spec is None or other is None:
            return None
        if spec.output is not None and spec.output not in other.outputs:
            where = self._positions.value((*block, "output"))
            hint = suggest(spec.output, other.outputs)
            self._complaints.add(f"{spec.file} has no output '{spec.output}'", where, hint)
            return None
        chosen = IncludeSpec.model_validate({"flow": spec.file, "with": spec.with_})
        taken = self._taken(name, chosen, other, block, (*block, "given"), (*block, "nodes"))
        outputs = {}
        for key in other.outputs if spec.output is None else (spec.output,):
            self._positions.add((*block, "outputs", key), ("outputs", key), other.positions)
            outputs[key] = self._renamed(other.outputs[key], taken.names, (*block, "outputs", key))
        return {
            "file": spec.file,
            "has_one_output": spec.output is not None,
            "given": taken.given,
            "nodes": self.nodes(taken.steps, (*block, "nodes"), (spec.file,)),
            "outputs": outputs,
        }

    def _taken(
        self, name: str, spec: IncludeSpec, other: _Other, block: DataPath, given_at: DataPath, path: DataPath
    ) -> _Taken:
        """Return the steps of the other flow that stand at `path` here, and at `given_at` those in the place of its
        constants. `block`: where that is written."""
        chosen = self._chosen(spec, other, block)
        names = {step: f"{spec.prefix}{step}" for step in chosen if spec.prefix}
        parameters = self._parameters(spec, other, block)
        given: dict[str, Any] = {}
        steps: dict[str, Any] = {}
        for constant, value in parameters.items():
            names[constant] = made = f"{name}_{constant}"
            at: DataPath = (*block, "with", constant)
            if isinstance(value, str) and any(mark in value for mark in _MARKS) and constant in spec.with_:
                given[made] = {"value": value}
                self._positions.add((*given_at, made), at)
                self._positions.add((*given_at, made, "value"), at)
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
        return _Taken(given, steps, names)

    def _other(self, flow: str, place: DataPath, within: tuple[str, ...], *, is_whole: bool = False) -> _Other | None:
        """Return the flow that `place` names. `is_whole`: it is one that can be run."""
        where = self._positions.value(place)
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
                return self._read(path, where if is_whole else None)
            except FlowError as error:
                at = error.where if isinstance(error.where, Location) else where
                self._complaints.add(error.what, at, error.hint)
        return None

    def _read(self, path: Path, whole_at: Location | None) -> _Other | None:
        """`whole_at`: where a flow is asked for that can be run; None where steps are enough."""
        document = read_flow_file(path)
        if whole_at is not None and (why := _why_no_tool(path.name, document.data)):
            self._complaints.add(why[0], whole_at, why[1])
            return None
        found = read(OtherSteps, document.data, (), document.positions, self._complaints)
        if found is None:
            return None
        return _Other(found.nodes, found.constants, found.outputs, FilePositions(document.positions))

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


def _why_no_tool(file: str, data: Any) -> tuple[str, str] | None:
    """Return why a flow cannot run for one row alone, with a hint; None where it can."""
    if not isinstance(data, dict):
        return f"{file} is no flow", "a flow file is a mapping with 'nodes' and 'outputs'"
    if data.get("tables"):
        return f"{file} has tables, and a tool runs for one row alone", "name a flow with 'nodes' and 'outputs'"
    if not data.get("outputs"):
        return (
            f"{file} has no outputs, which are what a tool gives",
            "write them there, or 'include' its steps",
        )
    return None
