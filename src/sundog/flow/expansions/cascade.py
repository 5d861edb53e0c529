"""`cascade`: a smaller model judges where it has shown to judge as the larger one does.

Owns the sample on which it shows that, the number of answers that must be equal there, and the tables that they stand
for. Answers of the smaller model are not those of the larger: this is a trade, which nobody makes but who asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, log
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sundog.flow.positions import DataPath
from sundog.ir.agreement import AGREEMENT, LEVEL, counted_agreement, least_agreed

_ROW, _BY_SMALL = "cascade__row", "cascade__by_small"


class CascadeSpec(BaseModel):
    """The smaller engine, and what it has to show."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    engine: str
    #: The share of all pairs that it must judge as the other engine does, at 95 % confidence.
    agree: float = Field(default=0.95, gt=0.5, lt=1)
    #: Pairs that both engines judge.
    sample: int = Field(default=59, ge=1, le=100_000)
    #: Another one draws another sample.
    seed: int = 0

    @model_validator(mode="after")
    def _can_show(self) -> CascadeSpec:
        if least_agreed(self.sample, self.agree) is None:
            least = ceil(log(LEVEL) / log(self.agree))
            raise ValueError(f"{self.sample} pairs cannot show an agreement of {self.agree:g}: it takes {least:,}")
        return self


def cascaded(
    name: str, cascade: CascadeSpec, asked: Mapping[str, Any], columns: Sequence[str], field: str, *, only_yes: bool
) -> dict[str, Mapping[str, Any]]:
    """Return the tables that judge the rows of the table `<name>__pairs`, which has `columns`: both engines the sample,
    and the one that this decides for the rest. `<name>__judged` has the columns and the verdict `field`, with
    `only_yes` of those rows alone to which it is yes."""
    pairs, sample, agreed, judged = (f"{name}__{part}" for part in ("pairs", "sample", "agreed", "judged"))
    small, large = f"{name}__small", f"{name}__large"
    by_small, by_large = f"{name}__by_small", f"{name}__by_large"
    of_small = {**asked, "engine": cascade.engine}
    struct = counted_agreement("s.small", "s.large")
    verdict = f"{by_small}.{field} if row.{_BY_SMALL} else {by_large}.{field}"
    needed = least_agreed(cascade.sample, cascade.agree)
    taken = f"a.{AGREEMENT}.num = {cascade.sample} and a.{AGREEMENT}.num_agreed >= {needed}"
    return {
        sample: {
            "query": f"select p.*, p.rowid as {_ROW} from {pairs} p"
            f" order by md5('{cascade.seed}:' || p.rowid), p.rowid limit {cascade.sample}",
            "nodes": {small: {"llm": of_small}, large: {"llm": dict(asked)}},
            "outputs": {
                _ROW: f"{{{{ row.{_ROW} }}}}",
                "small": f"{{{{ {small}.{field} }}}}",
                "large": f"{{{{ {large}.{field} }}}}",
            },
        },
        agreed: {
            "query": f"select {struct} as {AGREEMENT} from {sample} s",
            # A sampled pair without both verdicts shows nothing, and without the whole sample nothing is shown.
            "failed_rows": "leave_out",
            "outputs": {
                AGREEMENT: f"{{{{ row.{AGREEMENT} }}}}",
                "cascade__small": cascade.engine,
                "cascade__large": asked["engine"],
                "cascade__sample": f"{cascade.sample}",
                "cascade__agree": f"{cascade.agree!r}",
            },
        },
        judged: {
            "query": f"select p.*, {taken} and s.{_ROW} is null as {_BY_SMALL} from {pairs} p cross join {agreed} a"
            f" left join {sample} s on s.{_ROW} = p.rowid",
            "failed_rows": "leave_out",
            "nodes": {
                by_small: {"llm": of_small, "when": f"{{{{ row.{_BY_SMALL} }}}}"},
                by_large: {"llm": dict(asked), "when": f"{{{{ not row.{_BY_SMALL} }}}}"},
                **({f"{name}__matching": {"filter": f"{{{{ {verdict} }}}}"}} if only_yes else {}),
            },
            "outputs": {
                **{column: f"{{{{ row[{column!r}] }}}}" for column in columns},
                field: f"{{{{ {verdict} }}}}",
            },
            "types": {field: "BOOLEAN"},
        },
    }


def places_of_cascade(name: str, written: DataPath) -> dict[DataPath, DataPath]:
    """Return where the parts of the steps were written that `cascaded` makes of the block at `written`."""
    found: dict[DataPath, DataPath] = {}
    for table, small, large in (("sample", "small", "large"), ("judged", "by_small", "by_large")):
        nodes: DataPath = ("tables", f"{name}__{table}", "nodes")
        found |= {(*nodes, f"{name}__{step}", "llm"): written for step in (small, large)}
        found[(*nodes, f"{name}__{small}", "llm", "engine")] = (*written, "cascade", "engine")
    return found
