"""A DocETL pipeline as a flow: its data sets, its models, and its operations in their order.

Owns the reading of the file and the form of the whole. What single operations become is told by `operations`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sundog.errors import FlowError
from sundog.ir.sql_types import sql_name
from sundog.migrate.docetl.engines import ModelEngines
from sundog.migrate.docetl.making import Making, Operation, begin
from sundog.migrate.docetl.operations import apply
from sundog.migrate.docetl.rows import TableDraft, columns_of_file, columns_of_rows
from sundog.migrate.written import FreshNames, ImportedFlow, flow_name

# `item` and `doc` are what elements of a group are mostly called.
_COLUMN = re.compile(r"\b(?:input|item|doc|inputs\[0\])\.(\w+)")
_RESERVED = ("row", "item", "loop", "input", "inputs", "system")


def import_docetl(path: Path, folder: Path) -> ImportedFlow:
    """Return the flow of a pipeline file, to lie in `folder`. FlowError where it is no pipeline, or none of its
    operations can be taken over."""
    config = _read(path)
    made = ImportedFlow({"name": flow_name(path.stem), "engines": {}, "inputs": {}, "constants": {}})
    names = FreshNames(_RESERVED)
    making = Making(made, names, ModelEngines(config, made, names), [])
    if system := _system_prompt(config.get("system_prompt") or {}):
        made.flow["constants"]["system"] = system
    _Walk(config, folder, making).run()
    if not making.num_taken:
        raise FlowError(
            f"nothing of {path} could be taken over", hint="\n  ".join(made.not_taken_over) or "it has no operations"
        )
    _finish(making)
    return made


def _read(path: Path) -> Mapping[str, Any]:
    try:
        config = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FlowError(f"the pipeline cannot be read: {error.strerror}", where=str(path)) from error
    except (YAMLError, ValueError) as error:
        raise FlowError(f"the pipeline is no YAML: {error}", where=str(path)) from error
    if not isinstance(config, Mapping) or not isinstance(config.get("pipeline"), Mapping):
        raise FlowError(
            "this is no pipeline of DocETL", where=str(path), hint="it has `datasets`, `operations`, `pipeline`"
        )
    return config


class _Walk:
    """This class goes through the operations in the order of the pipeline's steps."""

    def __init__(self, config: Mapping[str, Any], folder: Path, making: Making) -> None:
        self._config = config
        self._folder = folder
        self._making = making
        self._operations = dict(_named(config.get("operations") or []))
        #: The table that is the result of a step, by the step's name.
        self._ended: dict[str, TableDraft] = {}

    def run(self) -> None:
        """Make the tables, as far as the operations can be taken over."""
        for step in self._config["pipeline"].get("steps") or ():
            table = self._source(step)
            for used in step.get("operations") or ():
                if table is not None:
                    table = self._apply(used, table)
            if table is None:
                return
            self._ended[str(step.get("name"))] = table

    def _apply(self, used: Any, table: TableDraft) -> TableDraft | None:
        if not isinstance(used, str):
            self._making.made.leave_out(
                f"equijoin '{next(iter(used))}' and what comes after it: write a table with `join`"
            )
            return None
        if used not in self._operations:
            self._making.made.leave_out(f"'{used}' and what comes after it: there is no such operation")
            return None
        return apply(self._operations[used], table, self._making)

    def _source(self, step: Mapping[str, Any]) -> TableDraft | None:
        name, making = str(step.get("input")), self._making
        if name in self._ended:
            before = self._ended[name]
            source, columns, reads = {"query": f"select * from {sql_name(before.name)}"}, [*before.columns], before.name
        elif name in (self._config.get("datasets") or {}):
            columns = self._dataset(name, self._config["datasets"][name])
            source, reads = {"from": flow_name(name)}, flow_name(name)
        else:
            making.made.leave_out(f"the step '{step.get('name')}': it reads no data set")
            return None
        table = begin(str(step["name"]), source, columns_of_rows(columns), making)
        table.reads = reads
        return table

    def _dataset(self, name: str, dataset: Mapping[str, Any]) -> list[str]:
        """Add the input, and return its columns."""
        made, path = self._making.made, Path(str(dataset.get("path")))
        self._making.names.give(name)
        made.flow["inputs"][flow_name(name)] = {
            "path": os.path.relpath(path, self._folder) if path.exists() else str(path)
        }
        for tool in dataset.get("parsing_tools") or dataset.get("parsing") or ():
            made.leave_out(f"the parsing tool '{tool.get('function')}' of '{name}': write a python step")
        columns = columns_of_file(path)
        if columns is None:
            columns = list(self._columns_in_prompts())
            made.remarks.append(
                f"The rows of '{name}' were not there ({path}): of their columns only those that prompts name go on."
            )
        return columns

    def _columns_in_prompts(self) -> Iterator[str]:
        """Yield the columns that operations read and that none of them makes."""
        made = {name for one in self._operations.values() for name in ((one.get("output") or {}).get("schema") or {})}
        for one in self._operations.values():
            texts = [one.get("prompt"), *(part.get("prompt") for part in one.get("prompts") or ())]
            keys = [one.get("unnest_key"), one.get("split_key"), one.get("reduce_key"), one.get("content_key")]
            keys += [one.get("document_keys"), one.get("blocking_keys")]
            listed = [
                key for written in keys if written for key in ([written] if isinstance(written, str) else written)
            ]
            for name in [*_read_columns(" ".join(filter(None, texts))), *listed]:
                if name not in made and name != "_all":
                    yield name


def _read_columns(text: str) -> Iterator[str]:
    for found in _COLUMN.finditer(text):
        yield found[1]


def _named(operations: Any) -> Iterator[tuple[str, Operation]]:
    """Yield the operations by name; older files have a mapping of them."""
    if isinstance(operations, Mapping):
        yield from ((str(name), {**one, "name": str(name)}) for name, one in operations.items())
    else:
        yield from ((str(one["name"]), one) for one in operations)


def _system_prompt(written: Mapping[str, Any]) -> str:
    persona, data = written.get("persona"), written.get("dataset_description")
    parts = [f"You are {persona}." if persona else "", f"The data: {data}." if data else ""]
    return " ".join(part for part in parts if part)


def _finish(making: Making) -> None:
    """Give the flow its tables, or the steps of its only one."""
    flow, tables = making.made.flow, making.tables
    if len(tables) == 1 and "from" in tables[0].source:
        flow |= {"nodes": tables[0].nodes, "outputs": tables[0].outputs()}
    else:
        flow["tables"] = {table.name: table.data() for table in tables}
        flow["results"] = [tables[-1].name]
    if not flow["constants"]:
        del flow["constants"]
