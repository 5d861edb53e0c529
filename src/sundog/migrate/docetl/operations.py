"""DocETL's operations on a table that is being made.

Owns what each operation becomes. Row by row: `map`, `parallel_map`, `extract` and `filter` are steps of the table.
`unnest`, `split`, `gather`, `reduce` and `resolve` begin a table over the one before. No others are taken over; each
says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sundog.errors import FlowError
from sundog.migrate.docetl.making import Making, Operation
from sundog.migrate.docetl.reduced import begin_reduced
from sundog.migrate.docetl.row_steps import add_extract, add_filter, add_map, add_parallel_map
from sundog.migrate.docetl.rows import TableDraft
from sundog.migrate.docetl.table_steps import (
    begin_gathered,
    begin_resolved,
    begin_split,
    begin_unnested,
)

# What changes how a pipeline runs, and not what comes out of it.
_SILENT = frozenset({
    "name", "type", "model", "prompt", "prompts", "output", "optimize", "recursively_optimize", "verbose",
    "flush_partial_results", "bypass_cache", "timeout", "max_retries_per_timeout", "drop_keys", "reduce_key",
    "unnest_key", "expand_fields", "split_key", "method", "method_kwargs", "synthesize_resolve", "execution",
    "litellm_completion_kwargs", "num_retries_on_validate_failure", "associative", "batch_prompt", "max_batch_size",
    "comparison_prompt", "comparison_model", "optimize_blocking", "embedding_model",
    "content_key", "doc_id_key", "order_key", "peripheral_chunks",
    "fold_prompt", "merge_prompt", "blocking_threshold", "blocking_keys",
    "document_keys", "format_extraction", "extraction_key_suffix", "extraction_method",
})  # fmt: skip
_WHY = {
    "validate": "Python expressions; say it in the output's schema, or filter by a template",
    "gleaning": "write a loop of two steps, one that answers and one that judges",
    "cascade": "one model answers all rows; write two engines with `escalate_when`",
    "sample": "give `sundog run` --limit or --sample",
    "limit": "give `sundog run` --limit",
    "fold_batch_size": "a prompt has as many texts as fit (max_prompt_tokens)",
    "merge_batch_size": "a prompt has as many answers as fit (max_prompt_tokens)",
    "value_sampling": "all rows of a group are in its prompt",
    "skip_on_error": "a row whose call fails goes to the errors file",
    "keep_empty": "a row with an empty list has no rows after it",
    "recursive": "only the outer list is unnested",
    "tools": "write a step for each",
    "resolution_prompt": "the canonical value is the one of most rows",
    "blocking_conditions": "Python expressions; write a `block` with `on`",
}
_NO_EQUAL = {
    "sample": "give `sundog run` --limit or --sample",
    "rank": "write a step that scores, and a table with `order by`; the rows go on in their order",
}
_PYTHON = "its Python stands in the file; put it into a module, and write a python step"
_STOPS = {"code_map": _PYTHON, "code_filter": _PYTHON, "code_reduce": _PYTHON}


def apply(operation: Operation, table: TableDraft, making: Making) -> TableDraft | None:
    """Return the table that goes on after an operation; None where nothing can be said about the rows after it."""
    name, kind = str(operation["name"]), str(operation.get("type"))
    if kind in _NO_EQUAL:
        making.made.leave_out(f"{kind} '{name}': {_NO_EQUAL[kind]}")
        return table
    if kind not in _OPERATIONS:
        making.made.leave_out(f"{kind} '{name}' and what comes after it: {_STOPS.get(kind, 'it has no equal')}")
        return None
    for key in sorted(operation.keys() - _SILENT):
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


_OPERATIONS: Mapping[str, Callable[[Operation, TableDraft, Making], TableDraft]] = {
    "map": add_map,
    "parallel_map": add_parallel_map,
    "extract": add_extract,
    "filter": add_filter,
    "unnest": begin_unnested,
    "split": begin_split,
    "reduce": begin_reduced,
    "resolve": begin_resolved,
    "gather": begin_gathered,
}
