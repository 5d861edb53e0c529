"""A flow written in Python: the same data as a flow file, and so the same plan.

Owns the calls that make that data. Never checks what bind checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sundog.errors import FlowError
from sundog.flow.agents.server_lists import ASKED_LISTS, ServerLists
from sundog.flow.bind import bind
from sundog.flow.limits import shown
from sundog.flow.python.call_sites import CallSites
from sundog.flow.python.nodes_builder import NodesBuilder, Prompt, Text, form_of_answer, given, plain, row
from sundog.flow.python.reference import Ref
from sundog.flow.python.rows import Rows, register_rows
from sundog.ir.logical import LogicalPlan
from sundog.ir.templates.template import ROW


class TableBuilder(NodesBuilder):
    """A table of a flow: nodes and outputs for each of its rows. Its columns are `row.<column>`; in the text of another
    table's query it stands for its name, as in `f"select * from {mentions}"`."""

    row = row

    def __init__(self, name: str, data: dict[str, Any], sites: CallSites) -> None:
        super().__init__(data["nodes"], ("tables", name, "nodes"), sites)
        self.name = name
        self._columns: dict[str, Any] = data["outputs"]

    def __str__(self) -> str:
        return self.name

    def output(self, **columns: Text) -> None:
        """Add columns of the table, in this order."""
        for name, template in columns.items():
            where = self._sites.record(("tables", self.name, "outputs", name))
            if name in self._columns:
                raise FlowError(f"the table has a column '{name}' already", where=where, hint="choose another name")
            self._columns[name] = plain(template)


class FlowBuilder(NodesBuilder):
    """A flow. `plan()` gives the plan that a flow file with the same words would give."""

    def __init__(self, name: str, *, base_dir: str | Path | None = None, objective: str = "makespan") -> None:
        """`base_dir`: the folder that relative paths count from, None for the working directory.
        `objective`: what the placement on workers makes small: makespan, mean-completion or cost."""
        self.name = name
        self.base_dir = Path(base_dir or "")
        sections: dict[str, Any] = {
            name: {} for name in ("workers", "engines", "limits", "inputs", "constants", "tools", "tables", "outputs")
        }
        self._data: dict[str, Any] = {"name": name, "objective": objective, **sections}
        super().__init__({}, ("nodes",), CallSites())

    def workers(self, name: str, *, count: int, max_resident: int = 1, usd_per_hour: float = 0.0) -> str:
        """Add a group of workers that load and unload the engines given to it, and return its name, for `engine`."""
        self._put("workers", name, {"count": count, "max_resident": max_resident, "usd_per_hour": usd_per_hour})
        return name

    def engine(self, name: str, *, kind: str, **options: Any) -> str:
        """Add an engine block, and return its name."""
        self._put("engines", name, {"kind": kind, **given(options)})
        return name

    def limit(self, address: str, *, max_concurrency: int) -> None:
        """Let a host (`https://example.com`) or a database (its URL) take at most so many calls at once."""
        self._put("limits", address, {"max_concurrency": max_concurrency})

    def input(  # noqa: PLR0913 - the words of an input in a flow file, which users write by name
        self,
        name: str,
        path: str | Path | None = None,
        *,
        query: str | None = None,
        call: Callable[..., Any] | str | None = None,
        rows: Rows | None = None,
        args: Mapping[str, Any] | None = None,
        key: str | Mapping[str, str] | None = None,
        types: Mapping[str, str] | None = None,
        at: str | None = None,
    ) -> Ref:
        """Add an input from a file, a DuckDB query, a function, or rows themselves, and return its columns.

        The first input drives: its columns are `row.<column>`. The others are joined to it by `key`.
        """
        if rows is not None and (path, query, call) != (None, None, None):
            raise FlowError("an input has exactly one of path, query, call and rows", where=self._sites.record(()))
        is_first = not self._data["inputs"]
        source = {
            "path": None if path is None else str(path),
            "query": query,
            "call": call if rows is None else register_rows(name, rows),
            "args": args,
            "key": key,
            "types": types,
            "at": at,
        }
        self._put("inputs", name, given(source))
        return row if is_first else Ref(f"{ROW}.{name}")

    def constant(self, name: str, value: Any) -> Ref:
        """Add a value that templates read by its name."""
        self._put("constants", name, value)
        return Ref(name)

    def tool(self, name: str, *, description: str | None = None, parameters: Any = None, **step: Any) -> str:
        """Add a step that agents may use; return its name. `step` is one operator with what stands below it in a flow
        file, as in `sql={"database": ..., "query": ...}`, and modifiers; or another `agent`, or a `flow`, as in
        `flow={"file": "verdict.yaml"}`. Its templates read `args`. The tools of a server all at once, as in
        `mcp={"url": ...}` with `only`, `trust` and `effects`, need no description. `parameters` has the forms of
        `output` in `llm`."""
        form = form_of_answer(name, parameters, "parameters")
        self._put("tools", name, {**given({"description": description, "parameters": form}), **step})
        return name

    def table(
        self,
        name: str,
        *,
        source: str | None = None,
        query: str | None = None,
        collect: Mapping[str, Any] | None = None,
        components: Mapping[str, str] | None = None,
        types: Mapping[str, str] | None = None,
        failed_rows: str | None = None,
        max_rows: int | None = None,
    ) -> TableBuilder:
        """Add a table of the rows of an input (`source` is its name), of a DuckDB `select` over inputs and tables,
        of its groups (`collect` has `query`, `by` and `as`), or of a graph (`components` has `nodes` and `edges`). A
        flow with tables has no nodes and outputs but those of its tables."""
        data: dict[str, Any] = {"nodes": {}, "outputs": {}}
        words = {
            "from": source,
            "query": query,
            "collect": collect,
            "components": components,
            "types": types,
            "failed_rows": failed_rows,
            "max_rows": max_rows,
        }
        self._put("tables", name, given(words))
        self._data["tables"][name] |= data
        return TableBuilder(name, self._data["tables"][name], self._sites)

    def table_of(self, name: str, *, flow: str | Path, table: str | None = None) -> str:
        """Add a table that another flow file of this folder computes, and return its name, for queries. `table`: None
        for the only table of a flow without tables."""
        self._put("tables", name, {"from": given({"flow": str(flow), "table": table})})
        return name

    def resolve(
        self,
        name: str,
        *,
        source: TableBuilder | str,
        column: str,
        engine: str,
        prompt: Prompt,
        failed_rows: str | None = None,
        **fields: Any,
    ) -> TableBuilder:
        """Add a table of the rows of `source`, an input or a table, in which values of `column` that mean the same have
        one canonical value. It takes also `system`, `block`, `canonical`, `as_`, `max_pairs` and `max_cluster`."""
        block = {"source": str(source), "column": column, "engine": engine, "prompt": prompt, **fields}
        return self._expansion(name, "resolve", block, failed_rows)

    def join(
        self,
        name: str,
        *,
        left: TableBuilder | str,
        right: TableBuilder | str,
        engine: str,
        prompt: Prompt,
        failed_rows: str | None = None,
        **fields: Any,
    ) -> TableBuilder:
        """Add a table of the pairs of rows of two sources that a model finds to match. Its columns are `left` and
        `right`, each a row. It takes also `system`, `block`, `keep` and `max_pairs`."""
        block = {"left": str(left), "right": str(right), "engine": engine, "prompt": prompt, **fields}
        return self._expansion(name, "join", block, failed_rows)

    def rank(
        self,
        name: str,
        *,
        source: TableBuilder | str,
        engine: str,
        prompt: Prompt,
        k: int,
        failed_rows: str | None = None,
        **fields: Any,
    ) -> TableBuilder:
        """Add a table of the `k` rows of a source to which a model gives the highest scores. It takes also `system` and
        `as_`."""
        block = {"source": str(source), "engine": engine, "prompt": prompt, "k": k, **fields}
        return self._expansion(name, "rank", block, failed_rows)

    def reduce(
        self,
        name: str,
        *,
        source: TableBuilder | str,
        text: str,
        engine: str,
        prompt: Text,
        failed_rows: str | None = None,
        output: Any = None,
        **fields: Any,
    ) -> TableBuilder:
        """Add a table of the groups of `source`, in each of which all texts of a column became one. It takes also `by`,
        `order_by`, `merge` or `fold`, `system`, `max_tokens`, `max_prompt_tokens`, `max_levels` and `as_`. `output` is
        as for `llm`."""
        block = {"source": str(source), "text": text, "engine": engine, "prompt": prompt, **fields}
        return self._expansion(name, "reduce", {**block, "output": form_of_answer(name, output)}, failed_rows)

    def _expansion(self, name: str, word: str, block: Mapping[str, Any], failed_rows: str | None) -> TableBuilder:
        words = {"as" if key == "as_" else key: value for key, value in block.items()}
        self._put("tables", name, given({word: given(words), "failed_rows": failed_rows}))
        self._data["tables"][name] |= {"nodes": {}, "outputs": {}}
        return TableBuilder(name, self._data["tables"][name], self._sites)

    def results(self, *tables: TableBuilder | str) -> None:
        """Name the tables whose rows are asked for; without it they are those that no other table reads."""
        self._sites.record(("results",))
        self._data["results"] = [str(table) for table in tables]

    def output(self, **columns: Text) -> None:
        """Add columns of the result, in this order."""
        for name, template in columns.items():
            self._put("outputs", name, template)

    def plan(self) -> LogicalPlan:
        """Return the logical plan; FlowError that lists everything that is wrong, by the lines that wrote it."""
        return self.planned_with(ASKED_LISTS)

    def planned_with(self, lists: ServerLists) -> LogicalPlan:
        """Return the logical plan as `plan` does. `lists`: gives the tools of servers."""
        return bind({**self._data, "nodes": self._nodes}, self._sites, base_dir=self.base_dir, lists=lists)

    def _put(self, section: str, name: str, value: Any) -> None:
        where = self._sites.record((section, name))
        if name in self._data[section]:
            label = shown(name) if section == "limits" else name
            raise FlowError(f"'{label}' is already in {section}", where=where, hint="choose another name")
        self._data[section][name] = plain(value)
