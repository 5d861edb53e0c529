"""The plan that a run has kept beside its rows, as a picture for whoever watches it.

Owns the reading of that form, which is the one of `describe_value`. Another version may have written it: what cannot be
read is no picture, and the figures are shown without one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sundog.errors import FlowError
from sundog.ir.templates.template import SAMPLE, Template
from sundog.present.document import InputDocument, OutputDocument, PlanDocument, StepDocument
from sundog.present.live.plan_picture import NOTHING_KNOWN, PlanPicture, picture_of_document
from sundog.present.logical_tree import Tree
from sundog.present.tables import TableDocument

Described = Mapping[str, Any]
"""A part of a plan in the form of `describe_value`."""
_SOURCES = {
    "InputRows": ("input", "input"),
    "QueryRows": ("query", "sql"),
    "CollectedRows": ("collect", "sql"),
    "ComponentRows": ("components", "nodes"),
}
"""By type of a table's source, its kind and the field that says what it reads."""
_LOOPS = {"AgentExec": "agent", "AlternativesExec": "one step, or another", "ToolFlowExec": "a flow, once for each use"}
_MAX_TITLE = 60


def kept_picture(text: bytes) -> PlanPicture | None:
    """Return the picture of a kept plan, None for the form of another version."""
    try:
        plan = json.loads(text)
        return picture_of_document(_document(plan))
    except (ValueError, LookupError, TypeError, FlowError):
        return None


def _document(plan: Described) -> PlanDocument:
    tables = plan["tables"]
    is_named = [table["table"]["name"] for table in tables] != [""]
    outputs = [_output(name, value["source"], table) for table in tables for name, value in table["table"]["outputs"]]
    return PlanDocument(
        flow="",
        policy="",
        max_rows_in_flight=0,
        num_rows=0,
        num_sampled=0,
        reading_order=(),
        logical=Tree(""),
        rewrites=(),
        steps=tuple(_step(node) for table in tables for node in table["nodes"]),
        pools=(),
        totals={},
        makespan_s=None,
        critical_path=(),
        missing=(),
        advice=(),
        placement=None,
        inputs=tuple(_input(one) for one in plan["inputs"]),
        outputs=tuple(outputs),
        tables=tuple(_table(table, plan["results"]) for table in tables) if is_named else (),
    )


def _input(one: Described) -> InputDocument:
    key = None if one["key"] is None else (str(one["key"][0]), str(one["key"][1]))
    return InputDocument(one["name"], one["path"] or one["query"] or one["call"] or "", key)


def _output(name: str, source: str, table: Described) -> OutputDocument:
    names = Template(source).names
    return OutputDocument(name, source, tuple(step for node in table["nodes"] if (step := _name(node)) in names))


def _table(table: Described, results: Sequence[str]) -> TableDocument:
    written = table["table"]
    kind, field = _SOURCES[written["source"]["type"]]
    source = str(written["source"][field])
    return TableDocument(
        written["name"],
        kind,
        source,
        (source,) if kind == "input" else (),
        table["stream_of"],
        tuple(table["waits_for"]),
        table["why_it_waits"],
        written["name"] in results,
        written["failed_rows"] == "leave_out",
        written["failed_rows"] == "mark",
        tuple(_name(node) for node in table["nodes"]),
        tuple(name for name, _ in written["outputs"]),
        NOTHING_KNOWN,
        NOTHING_KNOWN,
    )


def _body(node: Described) -> Described:
    """Return the part of a node that its user wrote."""
    return next(node[name] for name in ("step", "loop", "filter", "value") if name in node)


def _name(node: Described) -> str:
    return str(_body(node)["name"])


def _step(node: Described) -> StepDocument:
    body = _body(node)
    kind, title = _kind_and_title(node, body)
    condition = body["predicate"] if kind in ("filter", "require") else body.get("when")
    return StepDocument(
        _name(node),
        kind,
        title,
        tuple(node["before"]),
        False,
        pool=node.get("pool"),
        sharing=node.get("sharing"),
        is_effect=node.get("is_effect", False),
        body=tuple(_step(inner) for inner in node.get("body", ())),
        condition=_source(condition),
        for_each=_each(body.get("for_each")),
        until=_source(body.get("until")),
    )


def _kind_and_title(node: Described, body: Described) -> tuple[str, str]:
    if "step" in node:
        return "call", str(body["operator"])
    if "filter" in node:
        return "filter" if body["reason"] is None else "require", _cut(body["predicate"]["source"])
    if "value" in node:
        return "value", _cut(_source(body["template"]) or "")
    most = body["max_turns"]
    turns = f"at most {_source(most) if isinstance(most, Mapping) else most} turns"
    return "loop", _LOOPS.get(node["type"], turns)


def _source(template: Any) -> str | None:
    return template["source"] if isinstance(template, Mapping) and "source" in template else None


def _each(each: Described | None) -> str | None:
    return None if each is None or each["variable"] == SAMPLE else _source(each["items"])


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TITLE else f"{text[: _MAX_TITLE - 1]}…"
