"""DocETL's operations that see one row at a time: steps of the table that is being made.

Owns `map`, `parallel_map`, `extract` and `filter`.
"""

from __future__ import annotations

from typing import Any

from sundog.errors import FlowError
from sundog.ir.templates.template import column_of_row
from sundog.migrate.docetl.engines import sampling_of
from sundog.migrate.docetl.making import Making, Operation, append_step, ask, schema_of
from sundog.migrate.docetl.rows import TableDraft
from sundog.migrate.docetl.schemas import field_name
from sundog.migrate.prompts import with_names


def add_map(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    """Add a step that asks for each row; its fields are columns from here on."""
    if "prompt" in operation:
        schema = schema_of(operation)
        step = ask(operation, str(operation["prompt"]), schema, table, making)
        for column in schema:
            table.columns[column] = f"{step}.{field_name(column)}"
    for column in operation.get("drop_keys") or ():
        table.columns.pop(column, None)
    return table


def add_parallel_map(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    """Add a step for each of several prompts; none sees what another one gives."""
    schema, found = schema_of(operation), dict[str, str]()
    for one in operation["prompts"]:
        asked = {**operation, **one, "name": one.get("name") or operation["name"]}
        fields = {column: schema[column] for column in one["output_keys"]}
        step = ask(asked, str(one["prompt"]), fields, table, making)
        found |= {column: f"{step}.{field_name(column)}" for column in fields}
    table.columns |= found
    return table


def add_extract(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    """Add a step for each text that passages are taken from; they are a column from here on."""
    name, found = str(operation["name"]), dict[str, str]()
    making.made.leave_out(f"{name}: the model writes the passages out, and nothing cuts them from the text")
    for key in operation["document_keys"]:
        text = f"{{{{ {table.columns.get(key, column_of_row(key))} }}}}"
        prompt = with_names(str(operation["prompt"]), {"input": table.columns}, {})
        extract: dict[str, Any] = {
            "engine": making.engines.of(operation),
            **making.system(),
            "text": text,
            "prompt": prompt,
        }
        extract |= {**sampling_of(operation), "fields": {"passages": "list[str]"}}
        passages = f"{append_step(operation, name, {'extract': extract}, table, making)}.passages"
        column = f"{key}{operation.get('extraction_key_suffix') or f'_extracted_{name}'}"
        found[column] = f"{passages} | join('\\n\\n')" if operation.get("format_extraction", True) else passages
    table.columns |= found
    return table


def add_filter(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    """Add a step that asks whether a row stays, and the filter behind it."""
    schema = schema_of(operation)
    step = ask(operation, str(operation["prompt"]), schema, table, making)
    verdict = next((name for name, kind in schema.items() if str(kind).lower() in ("bool", "boolean")), None)
    if verdict is None:
        raise FlowError("its output has no truth value")
    table.nodes[making.names.give(f"{operation['name']}_keep")] = {"filter": f"{{{{ {step}.{field_name(verdict)} }}}}"}
    return table
