"""One written node -> one plan node, with the operator's own spec.

Owns the rules of a node by itself: its operator, its modifiers. Never looks at other nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sundog.errors import FlowError, Location, UserError, suggest
from sundog.flow.complaints import Complaints, with_article
from sundog.flow.expansions.short_forms import SHORT_FORMS
from sundog.flow.names import Names
from sundog.flow.positions import DataPath
from sundog.flow.prompt_file import FilePositions, with_prompt_files
from sundog.flow.secret_check import check_no_secrets
from sundog.flow.spec import (
    AGENT_MODIFIERS,
    FILTER_MODIFIERS,
    LOOP_MODIFIERS,
    REQUIRE_MODIFIERS,
    STEP_MODIFIERS,
    VALUE_MODIFIERS,
    LoopSpec,
    NodeSpec,
    RequireSpec,
)
from sundog.flow.steps.bind_alternatives import AlternativesBinder, has_alternatives
from sundog.flow.steps.node_draft import NodeDraft, each_of
from sundog.flow.validation import known_keys, read
from sundog.ir.logical import EngineBlock, Filter, ForEach, Loop, Node, OperatorSpec, Step, ValueNode
from sundog.ir.schemas.shape import Anything, ListOf, Record, Scalar
from sundog.ir.templates.template import ITEM, LOOP, SAMPLE, Template
from sundog.operators.base import OPERATORS, Operator

_ALLOWED = {
    "filter": FILTER_MODIFIERS,
    "loop": LOOP_MODIFIERS,
    "require": REQUIRE_MODIFIERS,
    "value": VALUE_MODIFIERS,
}
FILTERS = ("filter", "require")
"""What ends rows has no value, and stands in no loop."""


DraftAgent = Callable[[str, NodeSpec, DataPath], NodeDraft]


class NodeBinder:
    """This class makes drafts of the nodes of one flow, scope by scope, and gives each name to `names`. What is wrong
    goes to `complaints`, and the draft of a wrong node has none."""

    def __init__(
        self,
        positions: FilePositions,
        complaints: Complaints,
        names: Names,
        base_dir: Path,
        engines: Mapping[str, EngineBlock],
    ) -> None:
        self._positions = positions
        self._complaints = complaints
        self._names = names
        self._base_dir = base_dir
        self._engines = engines
        #: Makes the draft of an agent, which flow.agents knows.
        self.draft_agent: DraftAgent | None = None
        self._alternatives = AlternativesBinder(positions, complaints, names, self._one_step)

    def drafts(self, nodes: Mapping[str, Any], path: DataPath) -> tuple[NodeDraft, ...]:
        return tuple(self._draft(name, data, (*path, name)) for name, data in nodes.items())

    def _draft(self, name: str, data: Any, path: DataPath) -> NodeDraft:
        self._names.give(name, "step", self._positions.key(path))
        spec = read(NodeSpec, data, path, self._positions, self._complaints)
        operator = None if spec is None else self._operator_of(spec, path)
        if spec is None or operator is None:
            return NodeDraft(name, path)
        self._check_modifiers(operator, spec, data, path)
        beside = {key: text for key, text in data.items() if key != operator or key in ("filter", "require", "value")}
        check_no_secrets(beside, path, self._positions, self._complaints)
        match operator:
            case "filter":
                return self._filter(name, spec, path)
            case "require":
                return self._require(name, spec, path)
            case "loop":
                return self._loop(name, spec, path)
            case "value":
                return self._value(name, spec, path)
            case "agent" if self.draft_agent is not None:
                return self.draft_agent(name, spec, path)
        if has_alternatives(operator, spec):
            return self._alternatives.draft(name, operator, spec, path)
        return self._one_step(name, operator, spec, path)

    def _one_step(self, name: str, operator: str, spec: NodeSpec, path: DataPath) -> NodeDraft:
        make = self._short_form if operator in SHORT_FORMS else self._step
        return make(name, operator, spec, path)

    def _operator_of(self, spec: NodeSpec, path: DataPath) -> str | None:
        """Return the node's one operator; None after complaining."""
        names = _step_names()
        built_in = [name for name in _ALLOWED if getattr(spec, name) is not None]
        known = [*built_in, *(key for key in spec.operators if key in names)]
        unknown = [key for key in spec.operators if key not in names]
        for key in unknown:
            self._complain_of_key(key, known, path)
        if len(known) == 1:
            return known[0]
        if known:
            listed = " and ".join(f"'{key}'" for key in known)
            self._add(f"one node cannot be {listed} at once", (*path, known[1]), "make a node of each")
        elif not unknown:
            every = ", ".join(sorted({*_ALLOWED, *names}))
            self._add(f"the node '{path[-1]}' does not say what it does", path, f"give it one of: {every}")
        return None

    def _complain_of_key(self, key: str, operators: list[str], path: DataPath) -> None:
        for operator in operators:
            model = SHORT_FORMS.get(operator) or (operator in OPERATORS.names() and OPERATORS.get(operator).Spec)
            if model and key in known_keys(model):
                self._add(f"unknown key '{key}' in '{path[-1]}'", (*path, key), f"'{key}' belongs inside '{operator}'")
                return
        hint = suggest(key, {*_ALLOWED, *_step_names(), *STEP_MODIFIERS})
        self._add(f"unknown key '{key}' in '{path[-1]}'", (*path, key), hint)

    def _check_modifiers(self, operator: str, spec: NodeSpec, data: Mapping[str, Any], path: DataPath) -> None:
        allowed = AGENT_MODIFIERS if operator == "agent" else _ALLOWED.get(operator, STEP_MODIFIERS)
        for key in STEP_MODIFIERS:
            if key in data and key not in allowed:
                listed = ", ".join(allowed)
                self._add(f"{with_article(operator)} cannot have '{key}'", (*path, key), f"it can have: {listed}")
        for key in ("when", "for_each", "filter"):
            self._check_expression(getattr(spec, key), key, (*path, key))
        if spec.as_ is not None and spec.for_each is None:
            self._add("'as' names the element of a 'for_each', and there is none", (*path, "as"))
        if spec.for_each is not None:
            place = (*path, "as" if spec.as_ is not None else "for_each")
            self._names.give_variable(spec.as_ or ITEM, self._positions.key(place))

    def _check_expression(self, template: Template | None, key: str, path: DataPath) -> None:
        if template is not None and not template.is_expression:
            hint = "put all of it between {{ and }}, as in \"{{ answer.unit != 'none' }}\""
            self._complaints.add(f"'{key}' must be one expression", self._positions.value(path), hint)

    def _filter(self, name: str, spec: NodeSpec, path: DataPath) -> NodeDraft:
        assert spec.filter is not None
        node = Filter(name, spec.filter, spec.after, self._positions.key(path))
        return NodeDraft(name, path, "filter", node=node)

    def _require(self, name: str, spec: NodeSpec, path: DataPath) -> NodeDraft:
        block = (*path, "require")
        require = read(RequireSpec, spec.require, block, self._positions, self._complaints)
        if require is None:
            return NodeDraft(name, path)
        self._check_expression(require.that, "that", (*block, "that"))
        node = Filter(name, require.that, spec.after, self._positions.key(path), require.else_)
        return NodeDraft(name, path, "require", node=node)

    def _value(self, name: str, spec: NodeSpec, path: DataPath) -> NodeDraft:
        assert spec.value is not None
        each = each_of(spec)
        node = ValueNode(name, spec.value, spec.when, each, spec.after, self._positions.key(path))
        shape = Anything() if spec.value.is_expression else Scalar("str")
        return NodeDraft(name, path, "value", node=node, shape=ListOf(shape) if each else shape)

    def _loop(self, name: str, spec: NodeSpec, path: DataPath) -> NodeDraft:
        block = (*path, "loop")
        loop = read(LoopSpec, spec.loop, block, self._positions, self._complaints)
        if loop is None:
            return NodeDraft(name, path)
        body = self.drafts(loop.nodes, (*block, "nodes"))
        self._check_loop(loop, body, block)
        for key, template in (("max_turns", loop.max_turns), ("until", loop.until or "")):
            check_no_secrets(str(template), (*block, key), self._positions, self._complaints)
        shape = Record((("turns", Scalar("int")), *((draft.name, draft.shape) for draft in body)))
        where = self._positions.key(path)
        each = each_of(spec)
        node = Loop(name, nodes_bound(body), loop.max_turns, loop.until, spec.when, each, spec.after, where)
        return NodeDraft(name, path, "loop", spec.loop, node, ListOf(shape) if each else shape, body)

    def _check_loop(self, loop: LoopSpec, body: tuple[NodeDraft, ...], block: DataPath) -> None:
        if not body:
            self._add("a loop needs nodes", (*block, "nodes"))
        for draft in body:
            if draft.name == "turns":
                self._add("'turns' cannot name a step of a loop: it is the loop's number of turns", draft.path)
            if draft.operator in FILTERS:
                self._add(
                    f"a {draft.operator} cannot stand inside a loop", draft.path, "put it before or after the loop"
                )
        self._check_expression(loop.until, "until", (*block, "until"))
        if loop.until is not None and not loop.until.names & {LOOP, *(draft.name for draft in body)}:
            hint = "let it read a step of the loop, or loop.turn; leave it out to use all max_turns"
            self._add("'until' reads nothing that changes from turn to turn", (*block, "until"), hint)

    def _short_form(self, name: str, key: str, spec: NodeSpec, path: DataPath) -> NodeDraft:
        """Make the step that a short form stands for; its mistakes are told where the short form stands."""
        block, written = (*path, key), spec.operators[key]
        data = self.with_files(written, block, SHORT_FORMS[key].allows_files)
        if data is None and written is not None:
            return NodeDraft(name, path)
        short = read(SHORT_FORMS[key], data, block, self._positions, self._complaints, _beside(key))
        return NodeDraft(name, path) if short is None else self._bound_step(name, "llm", spec, path, block, short.llm())

    def _step(self, name: str, key: str, spec: NodeSpec, path: DataPath) -> NodeDraft:
        return self._bound_step(name, key, spec, path, (*path, key), spec.operators[key])

    def _bound_step(
        self, name: str, key: str, spec: NodeSpec, path: DataPath, block: DataPath, written: Any
    ) -> NodeDraft:
        """Make a step of the operator `key` of `written`, whose place is `block`."""
        try:
            operator = OPERATORS.get(key)(self._base_dir)
        except UserError as error:
            self._add(error.what, block, error.hint)
            return NodeDraft(name, path)
        data = self.with_files(written, block, operator.Spec.allows_files)
        if data is None and written is not None:
            return NodeDraft(name, path)
        own = read(operator.Spec, data, block, self._positions, self._complaints, _beside(key))
        if own is None or not self.passes_check(operator, own, block):
            return NodeDraft(name, path)
        open_fields = operator.Spec.allows_secrets
        closed = (
            {field: value for field, value in data.items() if field not in open_fields} if type(data) is dict else data
        )
        check_no_secrets(closed, block, self._positions, self._complaints)
        traits = operator.traits(own)
        if spec.share and traits.is_effect:
            self._add("an effect cannot be shared: every row has its own", (*path, "share"), "take out 'share'")
        node = Step(
            name,
            key,
            own,
            spec.when,
            self._samples(traits.num_samples, spec, path) or each_of(spec),
            spec.after,
            spec.timeout,
            spec.retries,
            spec.share,
            self._positions.key(path),
            max_retry_wait_s=spec.max_retry_wait,
        )
        shape = operator.shape(own)
        # What a short form makes was not written: a mistake in it stands anywhere in the block.
        block_data = data if block[-1] == key else None
        return NodeDraft(name, path, str(block[-1]), block_data, node, ListOf(shape) if node.for_each else shape)

    def with_files(self, data: Any, block: DataPath, fields: frozenset[str]) -> Any:
        """Return an operator's data with the prompts that stand in files in `fields`; None after complaining."""
        try:
            return with_prompt_files(data, block, fields, self._base_dir, self._positions)
        except FlowError as error:
            if not isinstance(error.where, Location):
                raise
            self._complaints.add(error.what, error.where, error.hint)
            return None

    def _samples(self, number: int | None, spec: NodeSpec, path: DataPath) -> ForEach | None:
        """Return samples as the elements of a list: each is a call of its own."""
        if number is None:
            return None
        if spec.for_each is not None:
            hint = "let for_each go over a list that holds each element as many times"
            self._add("a step with samples has no 'for_each'", (*path, "for_each"), hint)
        return ForEach(Template(f"{{{{ {list(range(number))} }}}}"), SAMPLE)

    def passes_check(self, operator: Operator, spec: OperatorSpec, block: DataPath) -> bool:
        """Return whether an operator takes a spec, after complaining where it does not."""
        try:
            operator.check(spec, self._engines)
        except FlowError as error:
            if isinstance(error.where, str):
                field = tuple(error.where.split("."))
                self._complaints.add(error.what, self._positions.value((*block, *field)), error.hint)
            else:
                self._add(error.what, block, error.hint)
            return False
        return True

    def _add(self, what: str, path: DataPath, hint: str | None = None) -> None:
        self._complaints.add(what, self._positions.key(path), hint)


def nodes_bound(drafts: Sequence[NodeDraft]) -> tuple[Node, ...]:
    """Return the nodes that are not wrong."""
    return tuple(draft.node for draft in drafts if draft.node is not None)


def _step_names() -> set[str]:
    return {*OPERATORS.names(), *SHORT_FORMS}


def _beside(key: str) -> dict[str, str]:
    """Return hints for the modifiers of a node that stand inside its operator."""
    return {modifier: f"'{modifier}' stands beside '{key}', not inside it" for modifier in STEP_MODIFIERS}
