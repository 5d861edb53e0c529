"""`resolve`: values that mean the same get one value, as a model judges pairs of them.

Owns the tables that it stands for. A pair without a verdict is no verdict; clusters are made of all verdicts at once,
so that they do not depend on which came first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sundog.flow.expansions.base import Expanded, as_text
from sundog.flow.expansions.blocks import blocks_of_values
from sundog.flow.expansions.cascade import CascadeSpec, cascaded, places_of_cascade
from sundog.flow.expansions.together import MAX_ROWS_PER_PROMPT, check_trades, places_of_together, together
from sundog.flow.expansions.vectors import Compared, VectorRule, near_pairs
from sundog.flow.positions import DataPath
from sundog.ir.sql_types import sql_name
from sundog.ir.tables import Candidates

MAX_PAIRS = 100_000
MAX_CLUSTER = 100
VECTOR = "resolve__vector"
_ORDERS = {
    "most_frequent": "v.num_rows desc, v.id",
    "longest": "length(v.value) desc, v.num_rows desc, v.id",
    "first": "v.id",
}


class BlockSpec(BaseModel):
    """The rules by which two values are asked about; one that holds is enough."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    #: SQL expressions over the column; a text alone is one of them.
    equal: tuple[str, ...] = ()
    #: The least Jaro-Winkler similarity.
    jaro_winkler: float | None = Field(default=None, gt=0, le=1)
    #: How many words both have at least.
    tokens: int | None = Field(default=None, ge=1)
    #: The vectors of a column that are near.
    vector: VectorRule | None = None
    #: A SQL condition over the column of `l` and of `r`.
    on: str | None = Field(default=None, min_length=1)

    @field_validator("equal", mode="before")
    @classmethod
    def _text_is_expression(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_a_rule(self) -> BlockSpec:
        if self == BlockSpec.model_construct():
            raise ValueError("a block has at least one of 'equal', 'jaro_winkler', 'tokens', 'vector' and 'on'")
        return self


class ResolveSpec(BaseModel):
    """The values of a column, resolved."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    #: The input or table whose rows get the canonical value.
    source: str = Field(min_length=1)
    column: str = Field(min_length=1)
    engine: str
    #: Asks whether `row.left` and `row.right` are the same.
    prompt: Any
    system: Any = None
    #: The pairs that are asked about, None for all.
    block: BlockSpec | None = None
    #: A smaller engine that judges where a sample shows that it agrees with `engine`.
    cascade: CascadeSpec | None = None
    #: So many pairs are judged by one answer, None for one.
    rows_per_prompt: int | None = Field(default=None, ge=2, le=MAX_ROWS_PER_PROMPT)
    canonical: Literal["most_frequent", "longest", "first"] = "most_frequent"
    #: The column that is added.
    as_: str = Field(default="canonical", alias="as", min_length=1)
    #: More pairs end the run before the first of them is asked about.
    max_pairs: int = Field(default=MAX_PAIRS, ge=1)
    #: A larger cluster ends the run.
    max_cluster: int = Field(default=MAX_CLUSTER, ge=2)

    @model_validator(mode="after")
    def _one_trade(self) -> ResolveSpec:
        check_trades(self.cascade, self.rows_per_prompt, self.prompt)
        return self


def resolve(name: str, spec: ResolveSpec, others: Mapping[str, Any]) -> Expanded:
    """Return the distinct values, the pairs with their verdicts, the clusters, their canonical values, and the rows."""
    values, pairs, clusters, canonical = (f"{name}__{part}" for part in ("values", "pairs", "clusters", "canonical"))
    source, column, judge = sql_name(spec.source), sql_name(spec.column), f"{name}__judge"
    text = as_text(f"s.{column}")
    waiting = {key: others[key] for key in ("failed_rows",) if key in others}
    asked = {"engine": spec.engine, "prompt": spec.prompt, "output": {"same": "bool"}}
    if spec.system is not None:
        asked["system"] = spec.system
    tables: dict[str, Mapping[str, Any]] = {
        values: {
            "query": f"select row_number() over (order by min(s.rowid)) - 1 as id, {text} as value,"
            f" count(*) as num_rows{_vector(spec)} from {source} s where {text} is not null group by {text}"
            " order by id",
            **waiting,
        },
        pairs: {
            "query": 'select p.left_id, p.right_id, l.value as "left", r.value as "right"'
            f" from ({' union '.join(_candidates(values, spec))}) p"
            f" join {values} l on l.id = p.left_id join {values} r on r.id = p.right_id order by left_id, right_id",
            "max_rows": spec.max_pairs,
            "nodes": {judge: {"llm": asked}},
            "outputs": {
                "left_id": "{{ row.left_id }}",
                "right_id": "{{ row.right_id }}",
                "left": "{{ row.left }}",
                "right": "{{ row.right }}",
                "same": f"{{{{ {judge}.same }}}}",
            },
        },
        clusters: {
            "components": {
                "nodes": f"select v.id from {values} v",
                "edges": _edges(pairs),
                "max_nodes": spec.max_cluster,
            },
            **waiting,
        },
        canonical: {
            "query": "select k.id, k.component, v.value, first_value(v.value) over (partition by k.component order by"
            f" {_ORDERS[spec.canonical]}) as canonical from {clusters} k join {values} v on v.id = k.id order by k.id",
        },
        name: {
            "query": f"select s.*, c.canonical as {sql_name(spec.as_)} from {source} s"
            f" left join {canonical} c on c.value = {text}",
            **others,
        },
    }
    traded, places = _traded(name, spec, tables, asked)
    return Expanded(traded, {**_places(name, pairs, judge), **places}, {pairs: _told(spec)})


def _told(spec: ResolveSpec) -> Candidates:
    block = spec.block
    if block is None:
        return Candidates(None, (), None, "values")
    by_likeness = (block.jaro_winkler, block.vector, block.on) != (None, None, None)
    blocks = blocks_of_values(spec.column, block.equal, by_words=block.tokens is not None, by_likeness=by_likeness)
    return Candidates(blocks, ("left_id", "right_id"), None if block.vector is None else VECTOR, "values")


def _traded(
    name: str, spec: ResolveSpec, tables: Mapping[str, Mapping[str, Any]], asked: Mapping[str, Any]
) -> tuple[dict[str, Mapping[str, Any]], dict[DataPath, DataPath]]:
    """Return the tables with those that judge in another way, where the block asks for one, and the places of these."""
    pairs, clusters, written = f"{name}__pairs", f"{name}__clusters", ("tables", name, "resolve")
    if spec.cascade is None and spec.rows_per_prompt is None:
        return dict(tables), {}
    of_pairs = {key: value for key, value in tables[pairs].items() if key in ("query", "max_rows")}
    of_clusters = {**tables[clusters]["components"], "edges": _edges(f"{name}__judged")}
    columns = ("left_id", "right_id", "left", "right")
    found = {**tables, pairs: of_pairs, clusters: {**tables[clusters], "components": of_clusters}}
    if spec.cascade is not None:
        judged = cascaded(name, spec.cascade, asked, columns, "same", only_yes=False)
        return {**found, **judged}, places_of_cascade(name, written)
    assert spec.rows_per_prompt is not None
    judged = together(name, spec.rows_per_prompt, of_pairs, asked, columns, "same", only_yes=False)
    return {**found, **judged}, places_of_together(name, written)


def _vector(spec: ResolveSpec) -> str:
    """Return the column with the vector of a value: that of its first row which has one."""
    if spec.block is None or spec.block.vector is None:
        return ""
    vector = f"s.{sql_name(spec.block.vector.column)}"
    return f", first({vector} order by s.rowid) filter (where {vector} is not null) as {VECTOR}"


def _edges(pairs: str) -> str:
    return f"select p.left_id, p.right_id from {pairs} p where p.same"


def _candidates(values: str, spec: ResolveSpec) -> Iterator[str]:
    """Yield a select of pairs for each rule."""
    column, block = sql_name(spec.column), spec.block
    named = f"select v.id, v.value as {column} from {values} v"
    pair = "select l.id as left_id, r.id as right_id"
    if block is None:
        yield f"{pair} from {values} l join {values} r on l.id < r.id"
        return
    for expression in block.equal:
        keyed = f"(select n.id, ({expression}) as key from ({named}) n)"
        yield f"{pair} from {keyed} l join {keyed} r on l.key = r.key and l.id < r.id"
    if block.jaro_winkler is not None:
        near = f"jaro_winkler_similarity(l.value, r.value) >= {block.jaro_winkler}"
        yield f"{pair} from {values} l join {values} r on l.id < r.id and {near}"
    if block.tokens is not None:
        words = f"(select distinct v.id, w.word from {values} v, unnest(string_split(lower(v.value), ' ')) as w(word))"
        yield (
            f"{pair} from {words} l join {words} r on l.word = r.word and l.id < r.id where l.word <> ''"
            f" group by l.id, r.id having count(*) >= {block.tokens}"
        )
    if block.vector is not None:
        side = Compared(f"(select v.id, v.value as {column}, v.{VECTOR} from {values} v)", "id", VECTOR)
        yield near_pairs(side, side, block.vector, once=True)
    if block.on is not None:
        yield f"{pair} from ({named}) l join ({named}) r on l.id < r.id and ({block.on})"


def _places(name: str, pairs: str, judge: str) -> dict[DataPath, DataPath]:
    written: DataPath = ("tables", name, "resolve")
    step = ("tables", pairs, "nodes", judge, "llm")
    return {
        ("tables", pairs, "nodes"): written,
        ("tables", pairs, "nodes", judge): written,
        step: written,
        ("tables", name, "query"): (*written, "source"),
        ("tables", f"{name}__values", "query"): (*written, "source"),
        ("tables", pairs, "query"): (*written, "block"),
        ("tables", pairs, "max_rows"): (*written, "max_pairs"),
    }
