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

    def system(self) -> dict[str, str]:
        """Return `system` of a step, where the pipeline has a system prompt."""
        return {"system": "{{ system }}"} if self.made.flow["constants"].get("system") else {}

    def source_of(self, table: TableDraft) -> str:
        """Return the name under which a query finds the rows of `table`; a table that adds nothing is dropped."""
        if table.reads is None or not table.is_plain:
            return table.name
        self.tables.remove(table)
        return table.reads


def begin(wish: str, source: dict[str, Any], columns: dict[str, str], making: Making) -> TableDraft:
    """Return a further table."""
    after = TableDraft(making.names.give(wish), source, columns)
    making.tables.append(after)
    return after


def ask(
    operation: Operation, prompt: str, schema: Mapping[str, Any], table: TableDraft, making: Making, **names: str
) -> str:
    """Add a step that asks the operation's model, and return its name."""
    llm: dict[str, Any] = {"engine": making.engines.of(operation), **making.system()}
    llm["prompt"] = with_names(prompt, {"input": table.columns}, names)
    llm |= {**sampling_of(operation), "output": answer_form(schema)}
    return append_step(operation, str(operation["name"]), {"llm": llm}, table, making)


def append_step(operation: Operation, wish: str, node: dict[str, Any], table: TableDraft, making: Making) -> str:
    """Add a step with the patience of the operation, and return its name."""
    step = making.names.give(wish)
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
