"""The things that the operations of one pipeline share while its flow is being made, and the step that asks a model.

Owns the names, engines and tables so far. Never reads the pipeline's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sundog.errors import FlowError
from sundog.migrate.docetl.engines import ModelEngines, sampling_of
from sundog.migrate.docetl.rows import TableDraft
from sundog.migrate.docetl.schemas import answer_form
from sundog.migrate.prompts import with_names
from sundog.migrate.written import FreshNames, ImportedFlow

Operation = Mapping[str, Any]


@dataclass(slots=True)
class Making:
    """The flow that is being made, and what its parts share."""

    made: ImportedFlow
    names: FreshNames
    engines: ModelEngines
    #: All tables so far, the one that is being made too.
    tables: list[TableDraft]
    num_taken: int = 0


def ask(
    operation: Operation, prompt: str, schema: Mapping[str, Any], table: TableDraft, making: Making, **names: str
) -> str:
    """Add a step that asks the operation's model, and return its name."""
    step = making.names.give(operation["name"])
    llm: dict[str, Any] = {"engine": making.engines.of(operation)}
    if system := making.made.flow["constants"].get("system"):
        llm["system"] = "{{ system }}" if system else ""
    llm["prompt"] = with_names(prompt, {"input": table.columns}, names)
    llm |= {**sampling_of(operation), "output": answer_form(schema)}
    node: dict[str, Any] = {"llm": llm}
    if "timeout" in operation:
        node["timeout"] = operation["timeout"]
    if "max_retries_per_timeout" in operation:
        node["retries"] = operation["max_retries_per_timeout"]
    table.nodes[step] = node
    return step


def schema_of(operation: Operation) -> Mapping[str, Any]:
    """Return the columns that an operation writes, with their types; FlowError where they cannot be told."""
    schema = (operation.get("output") or {}).get("schema")
    if not isinstance(schema, Mapping) or not schema:
        raise FlowError("it has no output.schema")
    if (operation["output"]).get("n", 1) != 1:
        raise FlowError("output.n makes several rows of one")
    return schema
