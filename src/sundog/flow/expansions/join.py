"""`join`: pairs of rows of two sources for which a condition in words holds, as a model judges each.

Owns the tables that it stands for. A pair without a verdict is a failed row, never one that does not match.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from sundog.flow.expansions.base import Expanded
from sundog.flow.expansions.blocks import blocks_of_rows, columns_for_blocks
from sundog.flow.expansions.cascade import CascadeSpec, cascaded, places_of_cascade
from sundog.flow.expansions.resolve import MAX_PAIRS
from sundog.flow.expansions.together import MAX_ROWS_PER_PROMPT, check_trades, places_of_together, together
from sundog.flow.expansions.vectors import Compared, VectorRule, near_pairs
from sundog.flow.positions import DataPath
from sundog.ir.sql_types import sql_name
from sundog.ir.tables import Candidates
from sundog.queries.conditions import keys_of_left


class JoinBlock(BaseModel):
    """The rule by which two rows are asked about, where SQL alone does not say it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    #: The vectors of a column of both sources that are near; with `top` the nearest right rows of each left row.
    vector: VectorRule


class JoinSpec(BaseModel):
    """Two sources and the condition."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    #: An input or a table.
    left: str = Field(min_length=1)
    right: str = Field(min_length=1)
    engine: str
    #: Asks whether the rows `row.left` and `row.right` belong together.
    prompt: Any
    system: Any = None
    #: A SQL condition over `l` and `r` for the pairs that are asked about, or a rule over vectors; None for all.
    block: (
        Annotated[
            Annotated[str, Field(min_length=1), Tag("text")] | Annotated[JoinBlock, Tag("rule")],
            Discriminator(lambda value: "text" if isinstance(value, str) else "rule"),
        ]
        | None
    ) = None
    #: With `left`, rows of the left source that match none stay, with null on the right.
    keep: Literal["pairs", "left"] = "pairs"
    #: A smaller engine that judges where a sample shows that it agrees with `engine`.
    cascade: CascadeSpec | None = None
    #: So many pairs are judged by one answer, None for one.
    rows_per_prompt: int | None = Field(default=None, ge=2, le=MAX_ROWS_PER_PROMPT)
    #: More pairs end the run before the first of them is asked about.
    max_pairs: int = Field(default=MAX_PAIRS, ge=1)

    @model_validator(mode="after")
    def _one_trade(self) -> JoinSpec:
        check_trades(self.cascade, self.rows_per_prompt, self.prompt)
        return self


def join(name: str, spec: JoinSpec, others: Mapping[str, Any]) -> Expanded:
    """Return the pairs that match, and the rows."""
    pairs, judge = f"{name}__pairs", f"{name}__judge"
    left, right = sql_name(spec.left), sql_name(spec.right)
    asked = {"engine": spec.engine, "prompt": spec.prompt, "output": {"matches": "bool"}}
    if spec.system is not None:
        asked["system"] = spec.system
    matching = f'select p."left", p."right" from {pairs} p'
    if spec.keep == "left":
        matching = f'select l as "left", p."right" from {left} l left join {pairs} p on p.left_id = l.rowid'
    of_pairs = {
        "query": _candidates(spec, left, right),
        "max_rows": spec.max_pairs,
        **{key: others[key] for key in ("failed_rows",) if key in others},
    }
    tables: dict[str, Mapping[str, Any]] = {
        pairs: {
            **of_pairs,
            "nodes": {
                judge: {"llm": asked},
                f"{name}__matching": {"filter": f"{{{{ {judge}.matches }}}}"},
            },
            "outputs": {"left_id": "{{ row.left_id }}", "left": "{{ row.left }}", "right": "{{ row.right }}"},
        },
        name: {"query": matching, **others},
    }
    columns, found = ("left_id", "left", "right"), _places(name, pairs, judge)
    of_judged = {"query": matching.replace(f"{pairs} p", f"{name}__judged p"), **others}
    if spec.cascade is not None:
        judged = cascaded(name, spec.cascade, asked, columns, "matches", only_yes=True)
        tables = {pairs: of_pairs, **judged, name: of_judged}
        found |= places_of_cascade(name, ("tables", name, "join"))
    if spec.rows_per_prompt is not None:
        judged = together(name, spec.rows_per_prompt, of_pairs, asked, columns, "matches", only_yes=True)
        tables = {**judged, name: of_judged}
        found |= places_of_together(name, ("tables", name, "join"))
    return Expanded(tables, found, {pairs: _told(spec)})


def _told(spec: JoinSpec) -> Candidates:
    if spec.block is None:
        return Candidates(None, (), None, "rows")
    keys = () if isinstance(spec.block, JoinBlock) else keys_of_left(spec.block)
    vector = spec.block.vector.column if isinstance(spec.block, JoinBlock) else None
    return Candidates(blocks_of_rows(keys), columns_for_blocks(keys), vector, "rows")


def _candidates(spec: JoinSpec, left: str, right: str) -> str:
    if not isinstance(spec.block, JoinBlock):
        condition = "true" if spec.block is None else f"({spec.block})"
        return f'select l.rowid as left_id, l as "left", r as "right" from {left} l join {right} r on {condition}'
    rule = spec.block.vector
    of_left, of_right = (Compared(one, "rowid", rule.column) for one in (left, right))
    near = near_pairs(of_left, of_right, rule, once=False)
    return (
        f'select p.left_id, l as "left", r as "right" from ({near}) p'
        f" join {left} l on l.rowid = p.left_id join {right} r on r.rowid = p.right_id order by p.left_id, p.right_id"
    )


def _places(name: str, pairs: str, judge: str) -> dict[DataPath, DataPath]:
    written: DataPath = ("tables", name, "join")
    return {
        ("tables", pairs, "nodes", judge, "llm"): written,
        ("tables", pairs, "query"): written,
        ("tables", pairs, "max_rows"): (*written, "max_pairs"),
        ("tables", name, "query"): written,
    }
