"""The nodes of a flow written in Python: steps, values, filters and loops of one scope.

Owns the calls that make their data. Never checks what bind checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sundog.errors import FlowError
from sundog.flow.positions import DataPath
from sundog.flow.python.answer_type import output_of
from sundog.flow.python.call_sites import CallSites, caller
from sundog.flow.python.reference import Expression, Ref
from sundog.functions import refer_to
from sundog.ir.agents import ARGS
from sundog.ir.templates.template import ITEM, LOOP, ROW, Template
from sundog.ir.values.normal_form import normal_form

Text = str | Expression
Prompt = Text | Mapping[str, str]
After = Ref | str | Iterable[Ref | str]

row = Ref(ROW)
item = Ref(ITEM)
args = Ref(ARGS)


class NodesBuilder:
    """Adds nodes to one scope: a flow, or the body of a loop.

    Each method names a node and returns its value as a `Ref`, for f-strings and conditions. The modifiers of
    every step: `when`, `for_each` and `as_`, `after`, `timeout` (seconds), `retries`,
    `max_retry_wait` (seconds), `share`.
    """

    def __init__(self, nodes: dict[str, Any], path: DataPath, sites: CallSites) -> None:
        self._nodes = nodes
        self._path = path
        self._sites = sites

    def step(  # noqa: PLR0913 - the words of a step in a flow file, which users write by name
        self,
        name: str,
        operator: str,
        *,
        when: Text | None = None,
        for_each: Text | None = None,
        as_: str | None = None,
        after: After = (),
        timeout: float | None = None,
        retries: int | None = None,
        max_retry_wait: float | None = None,
        share: bool | None = None,
        on_error: Mapping[str, Any] | None = None,
        escalate_when: Text | None = None,
        **spec: Any,
    ) -> Ref:
        """Add a step of any registered operator; `spec` is what stands below the operator in a flow file."""
        modifiers = {
            "when": when,
            "for_each": for_each,
            "as": as_,
            "after": _names(after),
            "timeout": timeout,
            "retries": retries,
            "max_retry_wait": max_retry_wait,
            "share": share,
            "on_error": on_error,
            "escalate_when": escalate_when,
        }
        return self._add(name, {operator: given(spec), **given(modifiers)})

    def llm(
        self, name: str, *, engine: str | Sequence[str], prompt: Prompt | None = None, output: Any = None, **fields: Any
    ) -> Ref:
        """Add an LLM call; it takes also `messages`, `system`, `max_tokens`, `temperature`, `seed`, `stop` and
        modifiers. `engine` may be two, with `escalate_when`. `messages` is a list of `{"role": ..., "content": ...}`
        and `{"from": list of messages}`, or that list of a row alone; `content` may be a list of `{"text": ...}`,
        `{"image": ...}` and `{"file": ...}`.
        `output` is the answer's form as in a flow file, or a pydantic model, a dataclass or a TypedDict."""
        return self.step(name, "llm", engine=engine, prompt=prompt, output=form_of_answer(name, output), **fields)

    def classify(self, name: str, *, engine: str, text: Text, labels: Any, many: bool = False, **fields: Any) -> Ref:
        """Add an LLM call whose `label` is one of `labels` (a list, or a mapping to what each means), with `many` a
        list `labels` of them; it takes also `prompt` and what is told of `llm`."""
        listed = labels if isinstance(labels, Mapping) else list(labels)
        return self.step(name, "classify", engine=engine, text=text, labels=listed, many=many or None, **fields)

    def extract(self, name: str, *, engine: str, text: Text, fields: Any, **more: Any) -> Ref:
        """Add an LLM call that finds `fields` in a text, which have the forms of `output` in `llm`; it takes also
        `prompt` and what is told there."""
        return self.step(name, "extract", engine=engine, text=text, fields=form_of_answer(name, fields), **more)

    def sql(self, name: str, *, database: str, query: str | None = None, **fields: Any) -> Ref:
        """Add a SQL statement with bound `params`, and modifiers."""
        return self.step(name, "sql", database=database, query=query, **fields)

    def http(self, name: str, *, url: Text, **fields: Any) -> Ref:
        """Add an HTTP request, and modifiers."""
        return self.step(name, "http", url=url, **fields)

    def python(self, name: str, call: Callable[..., Any] | str, *, output: Any = None, **fields: Any) -> Ref:
        """Add a call of a function or "module:function" with `args`, and modifiers. `output` is the form of what it
        returns, as of `llm`."""
        return self.step(name, "python", call=call, output=form_of_answer(name, output), **fields)

    def human(self, name: str, question: Text, **fields: Any) -> Ref:
        """Add a question that a person answers, by `sundog answer`, and modifiers."""
        return self.step(name, "human", question=question, **fields)

    def embed(self, name: str, *, engine: str, text: Text, dimensions: int | None = None, **fields: Any) -> Ref:
        """Add the vector of a text, and modifiers."""
        return self.step(name, "embed", engine=engine, text=text, dimensions=dimensions, **fields)

    def mcp(self, name: str, *, tool: str, **fields: Any) -> Ref:
        """Add a use of a tool of an MCP server, which `command` or `url` names, and modifiers."""
        return self.step(name, "mcp", tool=tool, **fields)

    def agent(
        self, name: str, *, engine: str, tools: Iterable[str], prompt: Prompt | None = None, **fields: Any
    ) -> Ref:
        """Add an agent that may use `tools`, as `Flow.tool` returns them; it takes also what `agent` does in a flow
        file, and modifiers. `output` is as for `llm`."""
        try:
            form = output_of(fields.pop("output", None))
        except ValueError as error:
            raise FlowError(f"the output of '{name}': {error}", where=caller()) from error
        return self.step(name, "agent", engine=engine, prompt=prompt, tools=list(tools), output=form, **fields)

    def include(
        self,
        name: str,
        flow: str | Path,
        *,
        nodes: Iterable[str] | None = None,
        with_: Mapping[str, Any] | None = None,
        prefix: str | None = None,
    ) -> Callable[[str], Ref]:
        """Take steps of another flow file (all, or those named `nodes`) into this one. `with_` gives values in place of
        its constants, and `prefix` stands before the steps' names. Return what gives a step's value by its name there,
        as in `shared("facts").text`."""
        spec = {"flow": str(flow), "nodes": None if nodes is None else list(nodes), "with": with_, "prefix": prefix}
        self._add(name, {"include": given(spec)})
        return lambda step: Ref(f"{prefix or ''}{step}")

    def filter(self, name: str, predicate: Text, *, after: After = ()) -> None:
        """Add a filter: rows for which `predicate` is false end here."""
        self._add(name, {"filter": predicate, **given({"after": _names(after)})})

    def require(self, name: str, that: Text, otherwise: Text, *, after: After = ()) -> None:
        """Add a requirement: rows for which `that` is false fail, with the text `otherwise` as the reason."""
        self._add(name, {"require": {"that": that, "else": otherwise}, **given({"after": _names(after)})})

    def define(
        self,
        name: str,
        template: Text,
        *,
        when: Text | None = None,
        for_each: Text | None = None,
        as_: str | None = None,
        after: After = (),
    ) -> Ref:
        """Add a value that no call computes; in a flow file it is `value`, which here is what steps read of a loop."""
        modifiers = {"when": when, "for_each": for_each, "as": as_, "after": _names(after)}
        return self._add(name, {"value": template, **given(modifiers)})

    def loop(
        self,
        name: str,
        *,
        max_turns: int | Text,
        until: Text | None = None,
        when: Text | None = None,
        for_each: Text | None = None,
        as_: str | None = None,
        after: After = (),
    ) -> LoopBuilder:
        """Add a bounded loop; its steps are added to what this returns."""
        nodes: dict[str, Any] = {}
        body = {**given({"max_turns": plain(max_turns), "until": plain(until)}), "nodes": nodes}
        modifiers = {"when": when, "for_each": for_each, "as": as_, "after": _names(after)}
        value = self._add(name, {"loop": body, **given(modifiers)})
        return LoopBuilder(nodes, (*self._path, name, "loop"), self._sites, value, body)

    def _add(self, name: str, node: dict[str, Any]) -> Ref:
        where = self._sites.record((*self._path, name))
        if name in self._nodes:
            raise FlowError(f"the node '{name}' is already there", where=where, hint="choose another name")
        # Kept as it is where the loop's builder goes on filling it.
        self._nodes[name] = {key: value if key == "loop" else plain(value) for key, value in node.items()}
        return Ref(name)


class LoopBuilder(NodesBuilder):
    """The body of a loop. `turn` counts from 1; `last.<step>` is a value of the turn before, `history.<step>` the
    list of those of all turns before; `value` is what
    steps outside read. As a context manager it does nothing but indent."""

    turn = Ref(f"{LOOP}.turn")
    last = Ref(f"{LOOP}.last")
    history = Ref(f"{LOOP}.history")

    def __init__(
        self, nodes: dict[str, Any], path: DataPath, sites: CallSites, value: Ref, body: dict[str, Any]
    ) -> None:
        super().__init__(nodes, (*path, "nodes"), sites)
        self._body = body
        self.value = value

    def until(self, condition: Text) -> None:
        """End the loop after the turn in which `condition` holds: for conditions that read the loop's own steps."""
        self._sites.record((*self._path[:-1], "until"))
        self._body["until"] = plain(condition)

    def __enter__(self) -> LoopBuilder:
        return self

    def __exit__(self, *exception: object) -> None:
        return None


def form_of_answer(name: str, output: Any, word: str = "output") -> Any:
    """Return a form of values as a flow file holds it; FlowError that names it by `word` where it cannot be taken."""
    try:
        return output_of(output)
    except ValueError as error:
        raise FlowError(f"the {word} of '{name}': {error}", where=caller()) from error


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are not None."""
    return {key: value for key, value in values.items() if value is not None}


def _names(after: After) -> list[str] | None:
    names = [after] if isinstance(after, Ref | str) else after
    return [name._source if isinstance(name, Ref) else name for name in names] or None


def plain(value: Any) -> Any:
    """Return `value` as a flow file would hold it: text for templates and functions, dicts and lists for the rest."""
    match value:
        case Expression() | Template():
            return str(value)
        case Mapping():
            return {str(key): plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
        case Path():
            return str(value)
        case _ if callable(value):
            return refer_to(value)
    try:
        return normal_form(value)
    except ValueError as error:
        raise FlowError(
            f"a {type(value).__name__} cannot stand in a flow: it has no JSON form", where=caller()
        ) from error
