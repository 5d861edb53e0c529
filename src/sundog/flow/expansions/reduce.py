"""`reduce`: all texts of a group become one, however many they are.

Owns the tables that it stands for. Which texts meet in one prompt follows from the rows of the source alone, never from
answers or from time: a run that is continued asks what it would have asked, and a row that is put in changes the chunks
around it and no others. A part that failed fails its group.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sundog.flow.expansions.base import Expanded
from sundog.flow.expansions.chunks import (
    GROUP,
    ITEM,
    KEY,
    LONGEST,
    NUM_PARTS,
    PART,
    PARTS,
    PLACE,
    Chunking,
    chunks_of_answers,
    chunks_of_rows,
)
from sundog.flow.positions import DataPath
from sundog.ir.schemas.output_schema import OutputSchema
from sundog.ir.schemas.shape import Record, Scalar, Shape
from sundog.ir.sql_types import spell_type, sql_name, type_of_shape
from sundog.ir.templates.template import Template

TEXT = "reduce__text"
MAX_LEVELS = 10
_EACH = f"{{% for part in row.{PARTS} if part.{ITEM} is not none %}}"
_SAID = f"row.{PARTS} | rejectattr('{ITEM}', 'none') | list"
_LISTED = f"{_EACH}{{{{ '\n\n---\n\n' if not loop.first }}}}{{{{ part.{ITEM} }}}}{{% endfor %}}"


class ReduceSpec(BaseModel):
    """The texts of a column, group by group."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
    #: An input or a table.
    source: str = Field(min_length=1)
    #: The columns that are equal in a group; a text alone is one of them. Without it all rows are one group.
    by: tuple[str, ...] = ()
    #: The column with the texts.
    text: str = Field(min_length=1)
    #: A SQL order of the texts of a group, None for that of the source.
    order_by: str | None = Field(default=None, min_length=1)
    engine: str
    #: Says what is made of texts.
    prompt: Template
    #: Says what is made of such answers, None for the same words.
    merge: Template | None = None
    #: Says what is made of the answer so far and further texts: they are read one chunk after the other.
    fold: Template | None = None
    system: Any = None
    #: The form of the answer, as of an llm step.
    output: Any = None
    #: The longest answer, in tokens.
    max_tokens: int = Field(default=500, ge=1)
    #: Tokens of the texts in one prompt, as far as their lengths tell.
    max_prompt_tokens: int = Field(default=4000, ge=1)
    #: Answers are merged so many times at most.
    max_levels: int = Field(default=6, ge=1, le=MAX_LEVELS)
    #: The column with the last answer.
    as_: str = Field(default="text", alias="as", min_length=1)

    @field_validator("by", mode="before")
    @classmethod
    def _text_is_column(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("output")
    @classmethod
    def _is_a_form(cls, value: Any) -> Any:
        OutputSchema.of(value)
        return value

    @model_validator(mode="after")
    def _ends(self) -> ReduceSpec:
        if self.merge is not None and self.fold is not None:
            raise ValueError("a reduce has either 'merge' or 'fold'")
        if self.chunking.num_answers < 2:
            raise ValueError(
                f"the reduce cannot end: two answers of max_tokens {self.max_tokens:,} do not fit into one prompt of "
                f"max_prompt_tokens {self.max_prompt_tokens:,}"
            )
        if clash := {name.lower() for name in self.by} & {name.lower() for name in self.columns}:
            raise ValueError(f"'{clash.pop()}' is a column of 'by' and one of the answer")
        return self

    @property
    def chunking(self) -> Chunking:
        order = f"{self.order_by}, s.rowid" if self.order_by else "s.rowid"
        return Chunking(self.source, self.by, self.text, order, self.max_prompt_tokens, self.max_tokens)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that come out beside those of `by`."""
        shape = None if self.output is None else OutputSchema.of(self.output).shape
        return (self.as_,) if not isinstance(shape, Record) else tuple(name for name, _ in shape.fields)


def reduce(name: str, spec: ReduceSpec, others: Mapping[str, Any]) -> Expanded:
    """Return a table for each level of the tree, or one of chunks and a loop over them, the groups, and the rows."""
    of_source = {key: others[key] for key in ("failed_rows",) if key in others}
    rest = {key: value for key, value in others.items() if key != "failed_rows"}
    tables = _folded(name, spec, of_source) if spec.fold is not None else _tree(name, spec, of_source)
    grouped = f"{name}__groups"
    by = [f"s.{sql_name(column)}" for column in spec.by]
    tables[name] = {"query": f"select {', '.join((*by, *_answer(spec)))} from {grouped} s", **rest}
    return Expanded(tables, _places(name, tables))


def _tree(name: str, spec: ReduceSpec, of_source: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    tables: dict[str, Mapping[str, Any]] = {f"{name}__0": {**_leaves(name, spec), **of_source}}
    for level in range(1, spec.max_levels):
        tables[f"{name}__{level}"] = _merged(name, spec, level)
    last = f"{name}__{spec.max_levels - 1}"
    levels = "1 level" if spec.max_levels == 1 else f"{spec.max_levels} levels"
    still = f"still {{{{ row.{PARTS} | length }}}} parts after {levels}: raise max_levels, or max_prompt_tokens"
    tables[f"{name}__groups"] = {
        "collect": _collected(spec, f"select {_columns(spec)}, s.{TEXT} as {ITEM} from {last} s order by s.rowid"),
        "failed_rows": "mark",
        "nodes": {f"{name}__is_one": {"require": {"that": f"{{{{ row.{PARTS} | length == 1 }}}}", "else": still}}},
        "outputs": {**_bare(spec.by), TEXT: f"{{{{ row.{PARTS}[0].{ITEM} }}}}"},
        "types": {TEXT: "VARCHAR"},
    }
    return tables


def _leaves(name: str, spec: ReduceSpec) -> dict[str, Any]:
    """Return the table of the chunks of rows, each with its answer; a chunk without any text has none."""
    asked = f"{name}__ask0"
    return {
        **_chunked(spec, chunks_of_rows(spec.chunking)),
        "nodes": {
            f"{name}__fits": _fits(spec),
            asked: {"llm": _llm(spec, spec.prompt.source, _LISTED), "when": f"{{{{ {_SAID} }}}}"},
        },
        "outputs": {**_of_part(spec), TEXT: f"{{{{ {asked}.text if {_SAID} else none }}}}"},
        "types": {TEXT: "VARCHAR"},
    }


def _merged(name: str, spec: ReduceSpec, level: int) -> dict[str, Any]:
    """Return the table of the chunks of the answers of the level before; one alone stays what it is."""
    asked, prompt = f"{name}__ask{level}", spec.merge or spec.prompt
    are_many = f"row.{PARTS} | length > 1"
    return {
        **_chunked(spec, chunks_of_answers(spec.chunking, f"{name}__{level - 1}", TEXT, level)),
        "failed_rows": "mark",
        "nodes": {asked: {"llm": _llm(spec, prompt.source, _LISTED), "when": f"{{{{ {are_many} }}}}"}},
        "outputs": {
            **_of_part(spec),
            TEXT: f"{{{{ {asked}.text if {are_many} else row.{PARTS}[0].{ITEM} }}}}",
        },
        "types": {TEXT: "VARCHAR"},
    }


def _folded(name: str, spec: ReduceSpec, of_source: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    assert spec.fold is not None
    chunks, loop, asked = f"{name}__0", f"{name}__fold", f"{name}__ask"
    part = f"{{{{ ({_SAID})[loop.turn - 1].{ITEM} }}}}"
    more = f"{spec.fold.source}\n\nSo far:\n{{{{ loop.last.{asked}.text }}}}"
    prompt = f"{{% if loop.turn == 1 %}}{spec.prompt.source}{{% else %}}{more}{{% endif %}}"
    sql = f"select {_columns(spec)}, s.{TEXT} as {ITEM} from {chunks} s order by s.rowid"
    # A chunk without any text has no turn, and a group of such chunks no answer.
    listed = f"{{{{ {_SAID} | map(attribute='{ITEM}') | join('\\n\\n---\\n\\n') if {_SAID} else none }}}}"
    room = spec.chunking._replace(room_tokens=spec.max_prompt_tokens - spec.max_tokens)
    return {
        chunks: {
            **_chunked(spec, chunks_of_rows(room)),
            "nodes": {f"{name}__fits": _fits(spec)},
            "outputs": {**_of_part(spec), TEXT: listed},
            "types": {TEXT: "VARCHAR"},
            **of_source,
        },
        f"{name}__groups": {
            "collect": _collected(spec, sql),
            "failed_rows": "mark",
            "nodes": {
                loop: {
                    "when": f"{{{{ {_SAID} }}}}",
                    "loop": {
                        "max_turns": f"{{{{ {_SAID} | length }}}}",
                        "nodes": {asked: {"llm": _llm(spec, prompt, part)}},
                    },
                }
            },
            "outputs": {**_bare(spec.by), TEXT: f"{{{{ {loop}.{asked}.text if {_SAID} else none }}}}"},
            "types": {TEXT: "VARCHAR"},
        },
    }


def _chunked(spec: ReduceSpec, sql: str) -> dict[str, Any]:
    by = [*spec.by, PART, NUM_PARTS, KEY, LONGEST]
    return {"collect": {"query": sql, "by": by, "as": PARTS, "order_by": PLACE}}


def _collected(spec: ReduceSpec, sql: str) -> dict[str, Any]:
    return {"query": sql, "by": [*spec.by] or [GROUP], "as": PARTS}


def _columns(spec: ReduceSpec) -> str:
    return ", ".join(f"s.{sql_name(column)}" for column in spec.by) or f"0 as {GROUP}"


def _fits(spec: ReduceSpec) -> dict[str, Any]:
    room = spec.max_prompt_tokens - (spec.max_tokens if spec.fold is not None else 0)
    told = (
        f"a text of about {{{{ row.{LONGEST} }}}} tokens does not fit into a prompt with {room:,} tokens of texts: cut"
        " it into pieces before, or raise max_prompt_tokens"
    )
    return {"require": {"that": f"{{{{ row.{LONGEST} <= {room} }}}}", "else": told}}


def _llm(spec: ReduceSpec, prompt: str, texts: str) -> dict[str, Any]:
    given = {"system": spec.system, "output": spec.output}
    known = {key: value for key, value in given.items() if value is not None}
    return {"engine": spec.engine, "prompt": f"{prompt}\n\n{texts}", "max_tokens": spec.max_tokens, **known}


def _of_part(spec: ReduceSpec) -> dict[str, str]:
    return _bare((*spec.by, PART, NUM_PARTS, KEY))


def _bare(columns: tuple[str, ...]) -> dict[str, str]:
    return {column: f"{{{{ row[{column!r}] }}}}" for column in columns}


def _answer(spec: ReduceSpec) -> list[str]:
    """Return the columns of the last answer as selects."""
    shape = None if spec.output is None else OutputSchema.of(spec.output).shape
    if not isinstance(shape, Record):
        return [f"s.{TEXT} as {sql_name(spec.as_)}"]
    return [f"{_field(field, of_field)} as {sql_name(field)}" for field, of_field in shape.fields]


def _field(name: str, shape: Shape) -> str:
    path = "'$.\"" + name.replace("'", "''").replace('"', '\\"') + "\"'"
    if isinstance(shape, Scalar) and shape.kind == "str":
        return f"s.{TEXT}::json->>{path}"
    return f"(s.{TEXT}::json->{path})::{spell_type(type_of_shape(shape))}"


def _places(name: str, tables: Mapping[str, Any]) -> dict[DataPath, DataPath]:
    written: DataPath = ("tables", name, "reduce")
    found: dict[DataPath, DataPath] = {("tables", table): written for table in tables if table != name}
    return {**found, ("tables", name, "query"): written}
