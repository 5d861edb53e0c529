"""The sections of a flow as a user writes them. The YAML file and the Python builder both give this.

Owns the keys of a flow and their types. Never looks at names, templates or operators' own keys: that is bind.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator, model_validator

from sundog.functions import is_reference
from sundog.ir.templates.template import Template
from sundog.ir.templates.whole_numbers import WholeNumber


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class FlowSpec(_Written):
    """A flow. Each entry of a section is read by its own model, so that every mistake is found at once."""

    name: str = Field(min_length=1)
    workers: dict[str, Any] = Field(default_factory=dict)
    objective: Literal["makespan", "mean-completion", "cost"] = "makespan"
    engines: dict[str, Any] = Field(default_factory=dict)
    limits: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, Any] = Field(default_factory=dict)
    constants: dict[str, Any] = Field(default_factory=dict)
    #: Steps that agents may use.
    tools: dict[str, Any] = Field(default_factory=dict)
    #: With `tables`, neither `nodes` nor `outputs` stand here, but in each table.
    tables: dict[str, Any] = Field(default_factory=dict)
    #: The tables whose rows are asked for; None for those that no other table reads.
    results: tuple[str, ...] | None = None
    nodes: dict[str, Any] = Field(default_factory=dict)
    outputs: dict[str, Any] = Field(default_factory=dict)


class WorkersSpec(_Written):
    """A group of equal places (GPUs, or room in memory) for engines."""

    #: The number of places.
    count: int = Field(ge=1)
    #: Engines that one place holds at once.
    max_resident: int = Field(default=1, ge=1)
    #: The price of one, while it is in use.
    usd_per_hour: float = Field(default=0.0, ge=0.0)


class EngineSpec(_Written):
    """One engine block; every other key is an option of its kind."""

    model_config = ConfigDict(extra="allow", frozen=True)
    #: The name of an entry of the engine registry.
    kind: str
    #: The group whose workers load and unload it, where it does not stay loaded.
    workers: str | None = None

    @field_validator("kind", mode="before")
    @classmethod
    def _null_is_a_kind(cls, value: Any) -> Any:
        """YAML reads `kind: null` as nothing; the engine of that name is meant."""
        return "null" if value is None else value

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class LimitSpec(_Written):
    """The limit of one host or database."""

    #: Calls in flight there, of all steps together.
    max_concurrency: int = Field(ge=1)


class InputSpec(_Written):
    """One input: exactly one of `path`, `query` and `call`. A text alone is a path."""

    #: Csv, jsonl or parquet; globs are allowed.
    path: str | None = None
    #: DuckDB SQL.
    query: str | None = None
    #: Module:function.
    call: str | None = None
    #: The arguments of `call`.
    args: dict[str, Any] = Field(default_factory=dict)
    #: Joins the input to the first one: a column of both, or {its column: the first's}.
    key: dict[str, str] | None = None
    #: DuckDB types of columns of `path`.
    types: dict[str, str] = Field(default_factory=dict)
    #: The place of the array in a .json file.
    at: str | None = Field(default=None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _text_is_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @field_validator("key", mode="before")
    @classmethod
    def _text_is_column(cls, value: Any) -> Any:
        return {value: value} if isinstance(value, str) else value

    @field_validator("key")
    @classmethod
    def _one_column(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        if value is not None and len(value) != 1:
            raise ValueError("must be one column, or one pair {its column: column of the first input}")
        return value

    @field_validator("call")
    @classmethod
    def _is_reference(cls, value: str | None) -> str | None:
        if value is not None and not is_reference(value):
            raise ValueError("must be module:function")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> InputSpec:
        if [self.path, self.query, self.call].count(None) != 2:
            raise ValueError("an input has exactly one of 'path', 'query' and 'call'")
        if self.args and self.call is None:
            raise ValueError("'args' belong to 'call'")
        if self.types and self.path is None:
            raise ValueError("'types' belong to 'path'")
        return self


class OutputSpec(RootModel[Template]):
    """One output column."""


class NodeSpec(_Written):
    """One node: exactly one operator (`filter`, `value`, `loop` or a name of the operator registry) beside its
    modifiers."""

    model_config = ConfigDict(extra="allow", frozen=True, arbitrary_types_allowed=True)
    when: Template | None = None
    for_each: Template | None = None
    as_: str | None = Field(default=None, alias="as")
    after: tuple[str, ...] = ()
    #: Seconds of one attempt.
    timeout: float | None = Field(default=None, gt=0)
    #: Attempts after the first.
    retries: int | None = Field(default=None, ge=0)
    #: The longest wait, in seconds, before one that a server may ask for.
    max_retry_wait: float | None = Field(default=None, ge=0)
    share: bool | None = None
    #: The stand-in for a call that failed.
    on_error: dict[str, Any] | None = None
    #: The second of two engines is asked where it holds of the first one's answer.
    escalate_when: Template | None = None
    filter: Template | None = None
    value: Template | None = None
    require: dict[str, Any] | None = None
    loop: dict[str, Any] | None = None

    @property
    def operators(self) -> dict[str, Any]:
        """The keys that are no modifiers: names of registered operators, or mistakes."""
        return dict(self.model_extra or {})


class RequireSpec(_Written):
    """A condition that each row must meet, and what is said of a row that does not."""

    that: Template
    else_: Template = Field(alias="else")


class LoopSpec(_Written):
    """A body of nodes, repeated until `until` holds or `max_turns` is reached."""

    max_turns: WholeNumber
    until: Template | None = None
    nodes: dict[str, Any]

    @field_validator("max_turns")
    @classmethod
    def _one_turn(cls, value: int | Template) -> int | Template:
        if not isinstance(value, Template) and value < 1:
            raise ValueError("must be at least 1")
        return value


AGENT_MODIFIERS = ("when", "for_each", "as", "after", "timeout", "retries", "max_retry_wait", "share")
STEP_MODIFIERS = (*AGENT_MODIFIERS, "on_error", "escalate_when")
LOOP_MODIFIERS = ("when", "for_each", "as", "after")
VALUE_MODIFIERS = LOOP_MODIFIERS
FILTER_MODIFIERS = REQUIRE_MODIFIERS = ("after",)
