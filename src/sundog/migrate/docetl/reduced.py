"""DocETL's `reduce`: a table with `reduce`, which takes groups of any length, and where a prompt cannot be divided into
words and texts a table of `collect`, with one prompt for each group.

Owns the choice between them, and what is told of either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sundog.errors import FlowError
from sundog.ir.sql_types import sql_name
from sundog.ir.templates.template import column_of_row
from sundog.migrate.docetl.engines import sampling_of
from sundog.migrate.docetl.group_prompts import GroupPrompt, read_group_prompt
from sundog.migrate.docetl.making import Making, Operation, ask, begin, schema_of
from sundog.migrate.docetl.rows import TableDraft, columns_of_rows
from sundog.migrate.docetl.schemas import answer_form, field_name
from sundog.migrate.prompts import with_names
from sundog.migrate.written import flow_name

_PROMPT_TOKENS, _ANSWER_TOKENS = 4_000, 500
"""A `reduce` of DocETL that says nothing takes these for a prompt and for an answer."""
_KEY_AS_A_WHOLE = re.compile(r"\{[{%][^}]*\breduce_key\b(?!\s*[.\[])[^}]*\}")
_COLUMN_ALONE = re.compile(r"\{\{\s*\w+\.(\w+)\s*\}\}")


def begin_reduced(operation: Operation, table: TableDraft, making: Making) -> TableDraft:
    """Return a table with a row for each group, and the answer about it."""
    written = operation["reduce_key"]
    keys = [] if written in ("_all", ["_all"]) else [written] if isinstance(written, str) else list(written)
    name, schema = str(operation["name"]), schema_of(operation)
    if _KEY_AS_A_WHOLE.search(str(operation["prompt"])):
        raise FlowError("its prompt reads `reduce_key` as a whole")
    try:
        prompt = read_group_prompt(str(operation["prompt"]), "inputs", keys)
        reduce = {"by": keys[0] if len(keys) == 1 else keys} if keys else {}
        reduce |= _answer(operation, keys)
    except FlowError as error:
        making.made.leave_out(f"{name} as a `reduce`, whose groups may be of any length: {error.what}")
        for key in ("fold_prompt", "merge_prompt"):
            if key in operation:
                making.made.leave_out(f"{name}.{key}: each group is one prompt")
        return _collected(operation, keys, table, making)
    more = _more_prompts(operation, prompt, keys, making)
    _tell(operation, prompt, reduce, making)
    text = _text_column(prompt, table)
    asked = {"engine": making.engines.of(operation), **making.system(), "prompt": prompt.words, **more}
    source = {"source": making.source_of(table), **reduce, "text": text, **asked}
    # The order of a reader: rows and groups first, then the words, then the answer.
    source |= {key: source.pop(key) for key in ("as", "output", "max_tokens", "max_prompt_tokens") if key in source}
    after = begin(name, {"reduce": source}, columns_of_rows(keys), making)
    fields = [*schema] if "as" in reduce else [field_name(column) for column in schema]
    after.give({column: column_of_row(field) for column, field in zip(schema, fields, strict=True)})
    return after


def _answer(operation: Operation, keys: Sequence[str]) -> dict[str, Any]:
    """Return what a `reduce` says of its answer; FlowError where it cannot say it."""
    schema, sampling = schema_of(operation), sampling_of(operation)
    max_tokens = sampling.pop("max_tokens", None)
    if sampling.get("temperature") == 0:
        del sampling["temperature"]
    if sampling:
        raise FlowError(f"its model is given {', '.join(sampling)}")
    form = answer_form(schema)
    if clash := {key.lower() for key in keys} & {name.lower() for name in schema}:
        raise FlowError(f"its answer has the column '{clash.pop()}' of reduce_key")
    said: dict[str, Any] = {"as": next(iter(schema))} if [*form.values()] == ["str"] else {"output": form}
    if max_tokens is not None:
        said["max_tokens"] = max_tokens
        if 4 * max_tokens > _PROMPT_TOKENS:
            said["max_prompt_tokens"] = 4 * max_tokens
    return said


def _more_prompts(operation: Operation, prompt: GroupPrompt, keys: Sequence[str], making: Making) -> dict[str, str]:
    """Return what is said of answers: how they are merged, or how one goes on with further texts."""
    name, found = operation["name"], dict[str, str]()
    for key, listed in (("merge_prompt", "outputs"), ("fold_prompt", "inputs")):
        if key not in operation:
            continue
        if found:
            making.made.leave_out(f"{name}.{key}: chunks of texts are read side by side, and their answers merged")
            continue
        try:
            read = read_group_prompt(str(operation[key]), listed, keys)
        except FlowError as error:
            making.made.leave_out(f"{name}.{key}: {error.what}")
            continue
        found[key.removesuffix("_prompt")] = read.words
        if listed == "inputs" and _columns_read(read) != _columns_read(prompt):
            making.made.leave_out(f"{name}.{key}: its texts are those of `prompt`, which reads other columns")
    return found


def _columns_read(prompt: GroupPrompt) -> set[str]:
    return set(re.findall(rf"\b{re.escape(prompt.element)}\.(\w+)", prompt.text))


def _text_column(prompt: GroupPrompt, table: TableDraft) -> str:
    """Return the column with the text of each row; the table gets one where none is just that."""
    alone = _COLUMN_ALONE.fullmatch(prompt.text)
    if alone and alone[1] in table.columns:
        return alone[1]
    return table.add_own("text", with_names(prompt.text, {prompt.element: table.columns}, {}))


def _tell(operation: Operation, prompt: GroupPrompt, reduce: dict[str, Any], making: Making) -> None:
    name, made = operation["name"], making.made
    if prompt.had_numbers:
        made.leave_out(f"{name}: the numbers of the texts (loop.index)")
    for key in ("timeout", "max_retries_per_timeout"):
        if key in operation:
            made.leave_out(f"{name}.{key}: a reduce has those of every llm step")
    room = reduce.get("max_prompt_tokens", _PROMPT_TOKENS)
    remark = (
        f"A `reduce` reads {room:,} tokens of texts in a prompt, behind its words, and answers with "
        f"{reduce.get('max_tokens', _ANSWER_TOKENS):,} at most: raise max_prompt_tokens and max_tokens where the model "
        "can do more."
    )
    if remark not in made.remarks:
        made.remarks.append(remark)


def _collected(operation: Operation, keys: Sequence[str], table: TableDraft, making: Making) -> TableDraft:
    """Return a table with a row for each group, and the step that asks about it."""
    schema = schema_of(operation)
    # The elements of a group lack the columns of `by`, and prompts read all of them.
    by = {f"by_{flow_name(key)}": key for key in keys}
    selected = [f"{sql_name(key)} as {name}" for name, key in by.items()] or ["1 as by_all"]
    source = making.source_of(table)
    query = f"select {', '.join([*selected, *map(sql_name, table.columns)])}\nfrom {sql_name(source)}"
    collect = {"query": query, "by": list(by) or ["by_all"], "as": "inputs"}
    after = begin(f"{operation['name']}_rows", {"collect": collect}, {}, making)
    prompt = with_names(str(operation["prompt"]), {"reduce_key": {key: f"row.{name}" for name, key in by.items()}}, {})
    step = ask(operation, prompt, schema, after, making, inputs="row.inputs", values="row.inputs")
    after.columns = {key: f"row.{name}" for name, key in by.items()}
    after.columns |= {column: f"{step}.{field_name(column)}" for column in schema}
    return after
