"""One table of a flow as a user writes it.

Owns the keys of a table and their types. Names, queries and templates are bind_tables' affair.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sundog.ir.tables import MAX_GROUP_ROWS, MAX_ROWS


class CollectSpec(BaseModel):
    """The rows of a query that are equal in some columns, as one row with a list of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    #: A DuckDB `select` over inputs and other tables.
    query: str = Field(min_length=1)
    #: The columns that are equal in a group; a text alone is one of them.
    by: tuple[str, ...] = Field(min_length=1)
    #: The column that holds the list.
    as_: str = Field(default="rows", alias="as", min_length=1)
    #: A group of more rows is a failed row.
    max_group_rows: int = Field(default=MAX_GROUP_ROWS, ge=1)
    #: A column of whole numbers that orders the rows, in the place of an order of the query. It is not in the list.
    order_by: str | None = Field(default=None, min_length=1)

    @field_validator("by", mode="before")
    @classmethod
    def _text_is_column(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class ComponentsSpec(BaseModel):
    """The connected components of a graph."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    #: A DuckDB `select` of one column: ids, each once.
    nodes: str = Field(min_length=1)
    #: A DuckDB `select` of two columns: the ids of two nodes that belong together.
    edges: str = Field(min_length=1)
    #: A larger component ends the run.
    max_nodes: int | None = Field(default=None, ge=1)


class TableSpec(BaseModel):
    """A table: the rows of an input, of a query, of its groups or of a graph, and what is computed for each."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    #: The name of an input: each of its rows is one of the table.
    from_: str | None = Field(default=None, alias="from", min_length=1)
    #: A DuckDB `select` over inputs and other tables.
    query: str | None = Field(default=None, min_length=1)
    #: The groups of a query.
    collect: CollectSpec | None = None
    #: The components of a graph.
    components: ComponentsSpec | None = None
    nodes: dict[str, Any] = Field(default_factory=dict)
    outputs: dict[str, Any] = Field(default_factory=dict)
    #: SQL types by output.
    types: dict[str, str] = Field(default_factory=dict)
    failed_rows: Literal["stop", "leave_out", "mark"] = "stop"
    #: A query that gives more rows ends the run.
    max_rows: int = Field(default=MAX_ROWS, ge=1)

    @model_validator(mode="after")
    def _has_one_source(self) -> TableSpec:
        if [self.from_, self.query, self.collect, self.components].count(None) != 3:
            raise ValueError("a table has exactly one of 'from', 'query', 'collect' and 'components'")
        if self.from_ is not None and "failed_rows" in self.model_fields_set:
            raise ValueError("'failed_rows' belongs to 'query': rows of an input do not wait for others")
        if self.from_ is not None and "max_rows" in self.model_fields_set:
            raise ValueError("'max_rows' belongs to 'query'")
        if self.failed_rows == "mark" and self.collect is None:
            raise ValueError("'failed_rows: mark' belongs to 'collect': it marks groups")
        return self
