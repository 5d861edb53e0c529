"""DocETL's operations that make other rows: each begins a table over the one before.

Owns `unnest`, `split`, `gather` and `resolve`, and the SQL that they need.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sundog.errors import FlowError
from sundog.ir.sql_types import sql_name
from sundog.ir.templates.template import column_of_row
from sundog.migrate.docetl.making import Making, Operation, append_step, begin, schema_of
from sundog.migrate.docetl.rows import TableDraft, columns_of_rows
from sundog.migrate.prompts import with_names
from sundog.migrate.written import flow_name

CHARACTERS_PER_TOKEN = 4
_COLUMN_OF_PAIR = re.compile(r"\binput[12]\.(\w+)")
DEFAULT_EMBEDDING_MODEL = "text-embedding-3-small"
VECTOR_LENGTHS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}


def begin_unnested(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    """Return a table with a row for each element of a column's lists."""
    key, expanded = str(operation["unnest_key"]), list(operation.get("expand_fields") or ())
    if key not in table.columns:
        raise FlowError(f"no column '{key}' is known")
    others = [column for column in table.columns if column not in (key, *expanded)]
    selected = [*(f"e.{sql_name(column)}" for column in others), f"u.element as {sql_name(key)}"]
    selected += [f"u.element.{sql_name(column)} as {sql_name(column)}" for column in expanded]
    source = sql_name(making.source_of(table))
    query = f"select {_listed(selected)}\nfrom {source} e, unnest(e.{sql_name(key)}) as u(element)"
    return begin(str(operation["name"]), {"query": query}, columns_of_rows([*others, key, *expanded]), making)


def begin_split(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    """Return a table with a row for each chunk of a text."""
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
    query = f"select {_listed(selected)}\nfrom {sql_name(making.source_of(table))} e, {number} as u(number)"
    return begin(str(operation["name"]), {"query": query}, columns_of_rows([*others, *made]), making)


def begin_gathered(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    """Return a table whose chunks show those beside them."""
    content, name = str(operation["content_key"]), str(operation["name"])
    around = operation.get("peripheral_chunks") or {}
    _tell_of_far_chunks(name, around, making)
    over = f"partition by {sql_name(str(operation['doc_id_key']))} order by {sql_name(str(operation['order_key']))}"
    before = _neighbours(content, over, (around.get("previous") or {}).get("tail"), "{0} preceding and 1 preceding")
    after = _neighbours(content, over, (around.get("next") or {}).get("head"), "1 following and {0} following")
    rendered = (
        f"coalesce('Before:' || chr(10) || {before} || chr(10), '') || 'Text:' || chr(10) || {sql_name(content)} || "
        f"coalesce(chr(10) || 'After:' || chr(10) || {after}, '')"
    )
    column = f"{content}_rendered"
    others = [one for one in table.columns if one != column]
    selected = _listed([*map(sql_name, others), f"{rendered} as {sql_name(column)}"])
    query = f"select {selected}\nfrom {sql_name(making.source_of(table))}"
    return begin(str(operation["name"]), {"query": query}, columns_of_rows([*others, column]), making)


def _neighbours(content: str, over: str, part: Mapping[str, Any] | None, rows: str) -> str:
    """Return the SQL of the texts of so many chunks beside one."""
    if not part:
        return "null"
    between = rows.format(int(part.get("count", 1)))
    return f"string_agg({sql_name(content)}, chr(10)) over ({over} rows between {between})"


def _tell_of_far_chunks(name: str, around: Mapping[str, Any], making: Making) -> None:
    near = {("previous", "tail"), ("next", "head")}
    for side, parts in around.items():
        for part, asked in (parts or {}).items():
            if (side, part) not in near:
                making.made.leave_out(f"{name}.peripheral_chunks.{side}.{part}: only the chunks right beside one")
            elif "content_key" in (asked or {}):
                making.made.leave_out(f"{name}.peripheral_chunks.{side}.{part}.content_key: the whole chunks are shown")


def begin_resolved(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    """Return the same rows with one value for all values of a column that mean the same."""
    (column, *others) = schema_of(operation)
    if others or column not in table.columns:
        raise FlowError("it resolves values of one column that is there")
    read = set(_COLUMN_OF_PAIR.findall(str(operation["comparison_prompt"])))
    if read - {column}:
        raise FlowError(
            f"its comparison_prompt reads '{min(read - {column})}', and pairs are of values of '{column}' alone"
        )
    names = {"input1": {column: "row.left"}, "input2": {column: "row.right"}}
    prompt = with_names(str(operation["comparison_prompt"]), names, {})
    engine = making.engines.of({**operation, "model": operation.get("comparison_model") or operation.get("model")})
    canonical = next(name for name in ("canonical", f"canonical_{flow_name(column)}") if name not in table.columns)
    block = _block(operation, column, table, making)
    resolve = {"source": making.source_of(table), "column": column, "engine": engine, "prompt": prompt, **block}
    resolve["as"] = canonical
    after = begin(str(operation["name"]), {"resolve": resolve}, columns_of_rows(table.columns), making)
    after.columns[column] = f"row.{canonical}"
    if not block:
        making.made.remarks.append(
            f"'{operation['name']}' asks about all pairs of values: write a `block` to keep them few."
        )
    return after


def _block(operation: Operation, column: str, table: TableDraft, making: Making) -> dict[str, Any]:
    """Return the near vectors that a threshold lets through, and add the step that makes the vectors."""
    if "blocking_threshold" not in operation:
        return {}
    model = str(operation.get("embedding_model") or DEFAULT_EMBEDDING_MODEL)
    length = VECTOR_LENGTHS.get(model.removeprefix("openai/"))
    if length is None:
        making.made.leave_out(
            f"{operation['name']}.blocking_threshold: the length of the vectors of '{model}' is not known; write an "
            "`embed` step, and a `block` with `vector`"
        )
        return {}
    keys = [str(key) for key in operation.get("blocking_keys") or (column,)]
    text = " ".join(f"{{{{ {table.columns.get(key, column_of_row(key))} }}}}" for key in keys)
    # A text without a value has no vector, and is in no pair.
    embed = {"when": text, "embed": {"engine": making.engines.of({"model": model}), "text": text}}
    if len(keys) > 1:
        del embed["when"]
    step = append_step({}, f"{operation['name']}_vectors", embed, table, making)
    vector = table.add_own("vector", f"{{{{ {step}.vector }}}}", f"FLOAT[{length}]")
    return {"block": {"vector": {"column": vector, "at_least": operation["blocking_threshold"]}}}


def _listed(selected: Sequence[str]) -> str:
    return ",\n  ".join(selected)


def sql_text(value: str) -> str:
    """Return a text as SQL spells it."""
    return "'" + value.replace("'", "''") + "'"
