"""A case: one workload, its rows, its engines. Data only; every arm gets the same one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from halo.inputs import Repetition

MODELS = ("a", "b", "c")
KVSize = Literal["large", "small"]
KV_SIZES: tuple[KVSize, ...] = get_args(KVSize)


@dataclass(frozen=True, slots=True)
class Case:
    """`engine`: what the report calls it. `blocks`: the engine block of each model, as in a flow. `database`: its
    URL. `http_mean_s`: mean latency of the HTTP server. `is_modelled`: time is the engines', not the machine's.
    `num_workers`: on which an arm that places engines itself may put them, instead of the replicas of the blocks."""

    workload: str
    num_rows: int
    repetition: Repetition
    seed: int
    engine: str
    kv: KVSize
    blocks: Mapping[str, Mapping[str, Any]]
    database: str
    http_mean_s: float
    is_modelled: bool = False
    num_workers: int = 0

    @property
    def slug(self) -> str:
        """The name of its folder among the results: all that makes two cases different."""
        return f"{self.engine}-{self.kv}-{self.repetition}-{self.workload}-{self.num_rows}"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def for_result(self) -> dict[str, Any]:
        """Return what a result file says of the case: of the database its kind alone, since a URL names this machine's
        folders, or holds a password."""
        return asdict(self) | {"database": self.database.partition(":")[0]}

    @classmethod
    def from_json(cls, text: str) -> Case:
        return cls(**json.loads(text))
