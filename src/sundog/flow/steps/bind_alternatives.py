"""Steps that another may stand in for, as they are written: `on_error`, and two engines with `escalate_when`.

Owns their rules. They become Alternatives of the plan, whose steps are drafted by flow.nodes as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from sundog.errors import FlowError
from sundog.flow.complaints import Complaints
from sundog.flow.names import Names
from sundog.flow.positions import DataPath, Positions
from sundog.flow.spec import NodeSpec
from sundog.flow.steps.node_draft import NodeDraft, each_of
from sundog.flow.validation import read
from sundog.ir.alternatives import Alternatives
from sundog.ir.logical import Step
from sundog.ir.schemas.shape import ListOf, Record, Shape
from sundog.ir.templates.substitute import rename
from sundog.ir.templates.template import SAMPLE, Template

DraftStep = Callable[[str, str, NodeSpec, DataPath], NodeDraft]
"""Makes the draft of a step: its name, its operator, what is written, and where."""
NUM_ENGINES = 2
_PLAIN: dict[str, Any] = {"when": None, "for_each": None, "as_": None, "after": ()}
_OWN: dict[str, Any] = {"on_error": None, "escalate_when": None}
_MISSING = object()


class OnErrorSpec(BaseModel):
    """The stand-in for a call that failed: exactly one of its keys is given."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
    #: JSON types with templates in it.
    value: Any = _MISSING
    engine: str | None = None

    @property
    def has_value(self) -> bool:
        return self.value is not _MISSING

    @field_validator("value")
    @classmethod
    def _with_templates(cls, value: Any) -> Any:
        return _templates_in(value)

    @model_validator(mode="after")
    def _one(self) -> OnErrorSpec:
        if self.has_value == (self.engine is not None):
            raise ValueError("'on_error' has exactly one of 'value' and 'engine'")
        return self


def _templates_in(value: Any) -> Any:
    """Return `value` with each text as a template; ValueError for a text that is none."""
    match value:
        case str():
            try:
                return Template(value)
            except FlowError as error:
                raise ValueError(str(error)) from error
        case dict():
            return {str(key): _templates_in(item) for key, item in value.items()}
        case list() | tuple():
            return [_templates_in(item) for item in value]
    return value


def has_alternatives(operator: str, spec: NodeSpec) -> bool:
    """Return whether something may stand in for a step."""
    return spec.on_error is not None or spec.escalate_when is not None or len(_engines(operator, spec)) > 0


class AlternativesBinder:
    """This class makes drafts of steps that another may stand in for. What is wrong goes to `complaints`."""

    def __init__(self, positions: Positions, complaints: Complaints, names: Names, draft_step: DraftStep) -> None:
        self._positions = positions
        self._complaints = complaints
        self._names = names
        self._draft_step = draft_step

    def draft(self, name: str, operator: str, spec: NodeSpec, path: DataPath) -> NodeDraft:
        """Return the draft of such a step; one without a node where it is wrong."""
        nothing = NodeDraft(name, path)
        on_error = None
        if spec.on_error is not None:
            on_error = read(OnErrorSpec, spec.on_error, (*path, "on_error"), self._positions, self._complaints)
            if on_error is None:
                return nothing
        if not self._is_well(operator, spec, path):
            return nothing
        engines = _engines(operator, spec)
        if on_error is not None and on_error.engine is not None:
            block = spec.operators[operator]
            if not isinstance(block, dict) or not isinstance(block.get("engine"), str):
                self._add("'on_error' names an engine, and the step has none", (*path, "on_error"), "give a `value`")
                return nothing
            engines = [block["engine"], on_error.engine]
        if engines and operator == "embed":
            self._add(
                "the vectors of two engines cannot be compared", path, "name one engine; 'on_error' takes a `value`"
            )
            return nothing
        if len(engines) == NUM_ENGINES and engines[0] == engines[1]:
            self._add(f"the engine '{engines[0]}' would be asked twice", path, "name another one")
            return nothing
        return self._made(name, operator, spec, path, engines, on_error)

    def _is_well(self, operator: str, spec: NodeSpec, path: DataPath) -> bool:
        engines = _engines(operator, spec)
        block = (*path, operator)
        if engines and (len(engines) != NUM_ENGINES or not all(isinstance(one, str) for one in engines)):
            self._add("a step has one engine or two", (*block, "engine"), "write engine: [small, large]")
        elif engines and spec.escalate_when is None:
            hint = "write escalate_when beside the operator: it says when the second one is asked"
            self._add("two engines need 'escalate_when'", (*block, "engine"), hint)
        elif engines and spec.on_error is not None:
            self._add("a step with two engines has no 'on_error'", (*path, "on_error"), "take out one of them")
        elif not engines and spec.escalate_when is not None:
            hint = "write engine: [small, large]"
            self._add("'escalate_when' asks a second engine, and there is none", (*path, "escalate_when"), hint)
        elif spec.escalate_when is not None and not spec.escalate_when.is_expression:
            hint = "put all of it between {{ and }}"
            self._add("'escalate_when' must be one expression", (*path, "escalate_when"), hint)
        else:
            return True
        return False

    def _made(
        self,
        name: str,
        operator: str,
        spec: NodeSpec,
        path: DataPath,
        engines: Sequence[str],
        on_error: OnErrorSpec | None,
    ) -> NodeDraft:
        drafts = self._drafts(name, operator, spec, path, engines)
        steps = [draft.node for draft in drafts if isinstance(draft.node, Step)]
        if len(steps) < len(drafts):
            return NodeDraft(name, path)
        first = steps[0]
        if on_error is not None and first.for_each is not None and first.for_each.variable == SAMPLE:
            self._add("a step with samples has no 'on_error'", (*path, "on_error"), "take out one of them")
            return NodeDraft(name, path)
        if spec.escalate_when is not None:
            when = rename(spec.escalate_when, {name: first.name})
            if when is None:
                self._add("'escalate_when' cannot be read", (*path, "escalate_when"), f"let it read '{name}' plainly")
                return NodeDraft(name, path)
            steps[1] = replace(steps[1], when=when)
        shape = drafts[0].shape
        if on_error is not None and on_error.has_value and not self._fits(on_error.value, shape, path):
            return NodeDraft(name, path)
        body = (first, *(replace(step, after=(first.name,)) for step in steps[1:]))
        each = each_of(spec)
        node = Alternatives(
            name,
            body,
            1,
            when=spec.when,
            for_each=each,
            after=spec.after,
            location=self._positions.key(path),
            on_error=None if on_error is None else "value" if on_error.has_value else "engine",
            otherwise=on_error.value if on_error is not None and on_error.has_value else None,
            fields=_fields(shape),
        )
        return replace(drafts[0], name=name, node=node, shape=ListOf(shape) if each else shape)

    def _drafts(
        self, name: str, operator: str, spec: NodeSpec, path: DataPath, engines: Sequence[str]
    ) -> list[NodeDraft]:
        """Return the drafts of the one step, or of one for each engine."""
        plain = spec.model_copy(update=_PLAIN | _OWN)
        if not engines:
            return [self._given(f"{name}__call", operator, plain, path)]
        block = spec.operators[operator]
        return [
            self._given(
                f"{name}__{engine}", operator, plain.model_copy(update={operator: {**block, "engine": engine}}), path
            )
            for engine in engines
        ]

    def _given(self, name: str, operator: str, spec: NodeSpec, path: DataPath) -> NodeDraft:
        self._names.give(name, "step", self._positions.key(path))
        return self._draft_step(name, operator, spec, path)

    def _fits(self, value: Any, shape: Shape, path: DataPath) -> bool:
        """Return whether a value may stand in for one of `shape`, as far as it is written out."""
        if isinstance(value, Template) and value.is_expression:
            return True
        missing = [key for key in _fields(shape) if not isinstance(value, dict) or key not in value]
        if missing:
            hint = f"write a mapping with {', '.join(_fields(shape))}"
            self._add(f"'on_error' gives no '{missing[0]}', which the step's value has", (*path, "on_error"), hint)
        return not missing

    def _add(self, what: str, path: DataPath, hint: str) -> None:
        self._complaints.add(what, self._positions.key(path), hint)


def _engines(operator: str, spec: NodeSpec) -> list[Any]:
    """Return the engines that are written as a list."""
    block = spec.operators.get(operator)
    found = block.get("engine") if isinstance(block, dict) else None
    return list(found) if isinstance(found, list | tuple) else []


def _fields(shape: Shape) -> tuple[str, ...]:
    return tuple(name for name, _ in shape.fields) if isinstance(shape, Record) else ()
