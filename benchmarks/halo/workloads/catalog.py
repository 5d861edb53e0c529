"""The workloads by name: graph, data, shape."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from halo.data import database, documents, films, tpch
from halo.graph import Graph
from halo.inputs import EARLY
from halo.workloads import documents as document_graphs
from halo.workloads import early_documents, early_films, early_sales
from halo.workloads import films as film_graphs
from halo.workloads import sales as sale_graphs
from sundog.engines.embedded.models import cache_folder
from sundog.errors import ConfigError
from sundog.secrets import Secrets

FLOWS = Path(__file__).parents[1] / "flows"
# Raised when tables change: what an older form has loaded is then left alone and loaded anew.
FORM = 1
PACKAGES = ("bokeh-sampledata", "tpchgen-cli")


@dataclass(frozen=True, slots=True)
class Workload:
    """`data`: films, documents or sales. `is_early`: its graph is an earlier one of this benchmark, with Halo's numbers
    of steps but dependencies and models of its own."""

    name: str
    shape: str
    data: str
    graph: Graph

    @property
    def is_early(self) -> bool:
        return self.name.startswith(EARLY)


WORKLOADS = {
    one.name: one
    for one in (
        Workload("w1", "diamond", "films", film_graphs.W1),
        Workload("w2", "triple chain", "films", film_graphs.W2),
        Workload("w3", "long chain", "documents", document_graphs.W3),
        Workload("w4", "bridge", "documents", document_graphs.W4),
        Workload("w5", "trident", "sales", sale_graphs.W5),
        Workload("w6", "fan-out", "sales", sale_graphs.W6),
        Workload("early_w1", "diamond", "films", early_films.W1),
        Workload("early_w2", "triple chain", "films", early_films.W2),
        Workload("early_w3", "long chain", "documents", early_documents.W3),
        Workload("early_w4", "bridge", "documents", early_documents.W4),
        Workload("early_w5", "trident", "sales", early_sales.W5),
        Workload("early_w6", "fan-out", "sales", early_sales.W6),
    )
}
PUBLISHED = tuple(one.name for one in WORKLOADS.values() if not one.is_early)


def check_packages() -> None:
    """ConfigError where a package that data comes from is not installed."""
    for name in PACKAGES:
        try:
            distribution(name)
        except PackageNotFoundError:
            raise ConfigError(f"the benchmark needs the package {name}", hint="pip install -e '.[bench]'") from None


def open_data(data: str, tpch_scale: float, server_url: str | None, secrets: Secrets) -> str:
    """The URL of a database that holds `data`, loaded where it is not there yet. `server_url` None: a SQLite file in
    the user's cache folder."""
    mark = _mark(data, tpch_scale)
    url = server_url or f"sqlite:///{cache_folder() / 'bench' / mark}.db"
    tables: dict[str, Callable[[], list[database.Table]]] = {
        "films": films.tables,
        "documents": documents.tables,
        "sales": lambda: tpch.tables(tpch_scale),
    }
    if not database.is_loaded(url, mark, secrets):
        database.load(url, tables[data](), mark, secrets)
    return url


def _mark(data: str, tpch_scale: float) -> str:
    parts = {"films": "", "documents": platform.python_version(), "sales": str(tpch_scale)}
    digest = hashlib.sha256(json.dumps([FORM, parts[data]]).encode()).hexdigest()[:8]
    return re.sub(r"\W", "_", f"bench_{data}_{digest}")
