"""DocETL's operations on a table that is being made.

Owns what each operation becomes. Row by row: `map`, `parallel_map` and `filter` are steps of the table. `unnest`,
`split`, `reduce` and `resolve` begin a table over the one before. No others are taken over; each says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sundog.errors import FlowError
from sundog.migrate.docetl.engines import ModelEngines, sampling_of
from sundog.migrate.docetl.rows import TableDraft, columns_of_rows
from sundog.migrate.docetl.schemas import answer_form, field_name
from sundog.migrate.prompts import with_names
from sundog.migrate.written import FreshNames, ImportedFlow, flow_name

Operation = Mapping[str, Any]
CHARACTERS_PER_TOKEN = 4

# What changes how a pipeline runs, and not what comes out of it.
_SILENT = frozenset({
    "name", "type", "model", "prompt", "prompts", "output", "optimize", "recursively_optimize", "verbose",
    "flush_partial_results", "bypass_cache", "timeout", "max_retries_per_timeout", "drop_keys", "reduce_key",
    "unnest_key", "expand_fields", "split_key", "method", "method_kwargs", "synthesize_resolve", "execution",
    "litellm_completion_kwargs", "num_retries_on_validate_failure", "associative", "batch_prompt", "max_batch_size",
    "comparison_prompt", "comparison_model", "optimize_blocking", "embedding_model",
})  # fmt: skip
_WHY = {
    "validate": "Python expressions; say it in the output's schema, or filter by a template",
    "gleaning": "write a loop of two steps, one that answers and one that judges",
    "cascade": "one model answers all rows",
    "sample": "give `sundog run` --limit or --sample",
    "limit": "give `sundog run` --limit",
    "fold_prompt": "each group is one prompt; a group that is longer than the model's context fails its row",
    "value_sampling": "all rows of a group are in its prompt",
    "skip_on_error": "a row whose call fails goes to the errors file",
    "keep_empty": "a row with an empty list has no rows after it",
    "recursive": "only the outer list is unnested",
    "tools": "write a step for each",
    "resolution_prompt": "the canonical value is the one of most rows",
    "blocking_keys": "all pairs are asked about; write a `block`",
    "blocking_threshold": "all pairs are asked about; write a `block`",
    "blocking_conditions": "Python expressions; write a `block` with `on`",
}
_NO_EQUAL = {
    "gather": "write a query with lag and lead over the chunks; the rows go on as they are",
    "sample": "give `sundog run` --limit or --sample",
    "rank": "write a step that scores, and a table with `order by`; the rows go on in their order",
}
_PYTHON = "its Python stands in the file; put it into a module, and write a python step"
_STOPS = {"code_map": _PYTHON, "code_filter": _PYTHON, "code_reduce": _PYTHON}


@dataclass(slots=True)
class Making:
    """The flow that is being made, and what its parts share."""

    made: ImportedFlow
    names: FreshNames
    engines: ModelEngines
    #: All tables so far, the one that is being made too.
    tables: list[TableDraft]
    num_taken: int = 0


def apply(operation: Operation, table: TableDraft, making: Making) -> TableDraft | None:
    """Return the table that goes on after an operation; None where nothing can be said about the rows after it."""
    name, kind = str(operation["name"]), str(operation.get("type"))
    if kind in _NO_EQUAL:
        making.made.leave_out(f"{kind} '{name}': {_NO_EQUAL[kind]}")
        return table
    if kind not in _OPERATIONS:
        making.made.leave_out(f"{kind} '{name}' and what comes after it: {_STOPS.get(kind, 'it has no equal')}")
        return None
    for key in operation.keys() - _SILENT:
        making.made.leave_out(f"{name}.{key}{': ' + _WHY[key] if key in _WHY else ''}")
    if "batch_prompt" in operation:
        making.made.leave_out(f"{name}.batch_prompt: each row has a prompt of its own")
    try:
        after = _OPERATIONS[kind](operation, table, making)
    except FlowError as error:
        making.made.leave_out(f"{kind} '{name}' and what comes after it: {error.what}")
        return None
    making.num_taken += 1
    return after


# -- row by row


def _map(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    if "prompt" in operation:
        schema = _schema(operation)
        step = _ask(operation, str(operation["prompt"]), schema, table, making)
        for column in schema:
            table.columns[column] = f"{step}.{field_name(column)}"
    for column in operation.get("drop_keys") or ():
        table.columns.pop(column, None)
    return table


def _parallel_map(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    schema, found = _schema(operation), dict[str, str]()
    for one in operation["prompts"]:
        asked = {**operation, **one, "name": one.get("name") or operation["name"]}
        fields = {column: schema[column] for column in one["output_keys"]}
        step = _ask(asked, str(one["prompt"]), fields, table, making)
        found |= {column: f"{step}.{field_name(column)}" for column in fields}
    table.columns |= found
    return table


def _filter(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    schema = _schema(operation)
    step = _ask(operation, str(operation["prompt"]), schema, table, making)
    verdict = next((name for name, kind in schema.items() if str(kind).lower() in ("bool", "boolean")), None)
    if verdict is None:
        raise FlowError("its output has no truth value")
    table.nodes[making.names.give(f"{operation['name']}_keep")] = {"filter": f"{{{{ {step}.{field_name(verdict)} }}}}"}
    return table


def _ask(
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


def _schema(operation: Operation) -> Mapping[str, Any]:
    schema = (operation.get("output") or {}).get("schema")
    if not isinstance(schema, Mapping) or not schema:
        raise FlowError("it has no output.schema")
    if (operation["output"]).get("n", 1) != 1:
        raise FlowError("output.n makes several rows of one")
    return schema


# -- other rows


def _unnest(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    key, expanded = str(operation["unnest_key"]), list(operation.get("expand_fields") or ())
    if key not in table.columns:
        raise FlowError(f"no column '{key}' is known")
    others = [column for column in table.columns if column not in (key, *expanded)]
    selected = [*(f"e.{sql_name(column)}" for column in others), f"u.element as {sql_name(key)}"]
    selected += [f"u.element.{sql_name(column)} as {sql_name(column)}" for column in expanded]
    query = f"select {_listed(selected)}\nfrom {sql_name(table.name)} e, unnest(e.{sql_name(key)}) as u(element)"
    return _begin(operation, {"query": query}, columns_of_rows([*others, key, *expanded]), making)


def _split(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    key, name = f"e.{sql_name(str(operation['split_key']))}", str(operation["name"])
    options = operation.get("method_kwargs") or {}
    if operation.get("method") == "delimiter":
        parts = f"string_split({key}, {sql_text(str(options['delimiter']))})"
        number, chunk = f"unnest(range(1, len({parts}) + 1))", f"{parts}[u.number]"
    else:
        size = CHARACTERS_PER_TOKEN * int(options["num_tokens"])
        making.made.leave_out(f"{name}: chunks are cut by characters, {CHARACTERS_PER_TOKEN} for a token")
        number = f"unnest(range(1, (length({key}) + {size - 1}) // {size} + 1))"
        chunk = f"substr({key}, (u.number - 1) * {size} + 1, {size})"
    made = {f"{operation['split_key']}_chunk": chunk, f"{name}_id": f"md5({key})", f"{name}_chunk_num": "u.number"}
    others = [column for column in table.columns if column not in made]
    selected = [f"e.{sql_name(column)}" for column in others]
    selected += [f"{expression} as {sql_name(column)}" for column, expression in made.items()]
    query = f"select {_listed(selected)}\nfrom {sql_name(table.name)} e, {number} as u(number)"
    return _begin(operation, {"query": query}, columns_of_rows([*others, *made]), making)


def _reduce(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    written = operation["reduce_key"]
    keys = [] if written in ("_all", ["_all"]) else [written] if isinstance(written, str) else list(written)
    schema = _schema(operation)
    # The elements of a group lack the columns of `by`, and prompts read all of them.
    by = {f"by_{flow_name(key)}": key for key in keys}
    selected = [f"{sql_name(key)} as {name}" for name, key in by.items()] or ["1 as by_all"]
    query = f"select {_listed([*selected, *map(sql_name, table.columns)])}\nfrom {sql_name(table.name)}"
    collect = {"query": query, "by": list(by) or ["by_all"], "as": "inputs"}
    after = _begin(operation, {"collect": collect}, {}, making)
    step = _ask(operation, str(operation["prompt"]), schema, after, making, inputs="row.inputs", values="row.inputs")
    after.columns = {key: f"row.{name}" for name, key in by.items()}
    after.columns |= {column: f"{step}.{field_name(column)}" for column in schema}
    return after


def _resolve(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    (column, *others) = _schema(operation)
    if others or column not in table.columns:
        raise FlowError("it resolves values of one column that is there")
    names = {"input1": {column: "row.left"}, "input2": {column: "row.right"}}
    prompt = with_names(str(operation["comparison_prompt"]), names, {})
    engine = making.engines.of({**operation, "model": operation.get("comparison_model") or operation.get("model")})
    canonical = next(name for name in ("canonical", f"canonical_{flow_name(column)}") if name not in table.columns)
    resolve = {"source": table.name, "column": column, "engine": engine, "prompt": prompt, "as": canonical}
    after = _begin(operation, {"resolve": resolve}, columns_of_rows(table.columns), making)
    after.columns[column] = f"row.{canonical}"
    making.made.remarks.append(
        f"'{operation['name']}' asks about all pairs of values: write a `block` to keep them few."
    )
    return after


def _begin(operation: Operation, source: dict[str, Any], columns: dict[str, str], making: Making) -> TableDraft:
    after = TableDraft(making.names.give(f"{operation['name']}_rows"), source, columns)
    making.tables.append(after)
    return after


def _listed(selected: Sequence[str]) -> str:
    return ",\n  ".join(selected)


def sql_name(name: str) -> str:
    """Return a name as SQL takes it, whatever it is."""
    return '"' + name.replace('"', '""') + '"'


def sql_text(value: str) -> str:
    """Return a text as SQL spells it."""
    return "'" + value.replace("'", "''") + "'"


_OPERATIONS: Mapping[str, Callable[[Operation, TableDraft, Making], TableDraft]] = {
    "map": _map,
    "parallel_map": _parallel_map,
    "filter": _filter,
    "unnest": _unnest,
    "split": _split,
    "reduce": _reduce,
    "resolve": _resolve,
}
