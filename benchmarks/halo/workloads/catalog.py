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
from halo.workloads.documents import W3, W4
from halo.workloads.films import W1, W2
from halo.workloads.sales import W5, W6
from sundog.engines.embedded.models import cache_folder
from sundog.errors import ConfigError
from sundog.secrets import Secrets

FLOWS = Path(__file__).parents[1] / "flows"
# Raised when tables change: what an older form has loaded is then left alone and loaded anew.
FORM = 1
PACKAGES = ("bokeh-sampledata", "tpchgen-cli")


@dataclass(frozen=True, slots=True)
class Workload:
    """`data`: films, documents or sales."""

    name: str
    shape: str
    data: str
    graph: Graph


WORKLOADS = {
    one.name: one
    for one in (
        Workload("w1", "diamond", "films", W1),
        Workload("w2", "triple chain", "films", W2),
        Workload("w3", "long chain", "documents", W3),
        Workload("w4", "bridge", "documents", W4),
        Workload("w5", "trident", "sales", W5),
        Workload("w6", "fan-out", "sales", W6),
    )
}


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
