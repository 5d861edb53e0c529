"""DocETL's operations that see one row at a time: steps of the table that is being made.

Owns `map`, `parallel_map` and `filter`.
"""

from __future__ import annotations

from sundog.errors import FlowError
from sundog.migrate.docetl.making import Making, Operation, ask, schema_of
from sundog.migrate.docetl.rows import TableDraft
from sundog.migrate.docetl.schemas import field_name


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


def add_filter(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    """Add a step that asks whether a row stays, and the filter behind it."""
    schema = schema_of(operation)
    step = ask(operation, str(operation["prompt"]), schema, table, making)
    verdict = next((name for name, kind in schema.items() if str(kind).lower() in ("bool", "boolean")), None)
    if verdict is None:
        raise FlowError("its output has no truth value")
    table.nodes[making.names.give(f"{operation['name']}_keep")] = {"filter": f"{{{{ {step}.{field_name(verdict)} }}}}"}
    return table
