"""TPC-H, made by tpchgen-cli at a scale factor. Dates are text and decimals are real, alike in every database."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import duckdb

from halo.data.database import Table

INDEXES = {
    "region": (),
    "nation": ("n_regionkey",),
    "supplier": ("s_nationkey",),
    "customer": ("c_custkey", "c_mktsegment"),
    "part": ("p_partkey", "p_size"),
    "partsupp": ("ps_partkey",),
    "orders": ("o_orderkey", "o_custkey"),
    "lineitem": ("l_orderkey", "l_shipdate"),
}
TYPES = {"DATE": "text", "VARCHAR": "text", "BIGINT": "integer", "INTEGER": "integer"}


def tables(scale: float) -> list[Table]:
    with tempfile.TemporaryDirectory(prefix="sundog-tpch-") as folder:
        command = [_generator(), "parquet", "--scale-factor", str(scale), "--output-dir", folder, "--quiet"]
        subprocess.run(command, check=True)
        return [_read(Path(folder) / f"{name}.parquet", indexes) for name, indexes in INDEXES.items()]


def _generator() -> str:
    beside = Path(sys.executable).with_name("tpchgen-cli")
    return str(beside) if beside.is_file() else shutil.which("tpchgen-cli") or "tpchgen-cli"


def _read(path: Path, indexes: tuple[str, ...]) -> Table:
    kinds = {name: kind for name, kind, *_ in _rows(f"describe from '{path}'")}
    columns = {name: TYPES.get(kind, "real") for name, kind in kinds.items()}
    casts = {"text": "varchar", "integer": "bigint", "real": "double"}
    chosen = ", ".join(f"{name}::{casts[kind]}" for name, kind in columns.items())
    return Table(path.stem, columns, _rows(f"select {chosen} from '{path}'"), indexes)


def _rows(query: str) -> list[tuple[Any, ...]]:
    return duckdb.execute(query).fetchall()
