"""`rank`: the best rows of a source by a score that a model gives to each.

Owns the tables that it stands for. A row without a score has no place: the ranking waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sundog.flow.expansions.base import Expanded
from sundog.flow.positions import DataPath
from sundog.ir.sql_types import sql_name

_ID = "rank__id"


class RankSpec(BaseModel):
    """A source, the question for the score, and how many rows are wanted."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    #: An input or a table.
    source: str = Field(min_length=1)
    engine: str
    #: Asks for the score of a row, a whole number; its columns are `row.<column>`.
    prompt: Any
    system: Any = None
    #: How many rows come out: those of the highest scores, of equal ones the earlier row.
    k: int = Field(ge=1)
    #: The column with the score that is added.
    as_: str = Field(default="score", alias="as", min_length=1)


def rank(name: str, spec: RankSpec, others: Mapping[str, Any]) -> Expanded:
    """Return the scores, and the rows."""
    scores, judge = f"{name}__scores", f"{name}__judge"
    source = sql_name(spec.source)
    asked = {"engine": spec.engine, "prompt": spec.prompt, "output": {"score": "int"}}
    if spec.system is not None:
        asked["system"] = spec.system
    tables: dict[str, Mapping[str, Any]] = {
        scores: {
            "query": f"select s.*, s.rowid as {_ID} from {source} s",
            "nodes": {judge: {"llm": asked}},
            "outputs": {"id": f"{{{{ row.{_ID} }}}}", "score": f"{{{{ {judge}.score }}}}"},
            **{key: others[key] for key in ("failed_rows",) if key in others},
        },
        name: {
            "query": f"select s.*, c.score as {sql_name(spec.as_)} from {source} s join {scores} c"
            f" on c.id = s.rowid order by c.score desc, s.rowid limit {spec.k}",
            **others,
        },
    }
    return Expanded(tables, _places(name, scores, judge))


def _places(name: str, scores: str, judge: str) -> dict[DataPath, DataPath]:
    written: DataPath = ("tables", name, "rank")
    return {
        ("tables", scores, "nodes", judge, "llm"): written,
        ("tables", scores, "query"): (*written, "source"),
        ("tables", name, "query"): (*written, "source"),
    }
