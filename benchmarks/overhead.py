"""The coordinator's own cost: three steps per row on the null engine, store on, nothing to share.

Each size runs in a process of its own, measured by the system: wall time, CPU time, peak resident memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
from machine import save, sundog

NUM_STEPS = 3
FLOW = """
name: overhead
engines:
  nothing: {kind: "null", max_concurrency: 256}
inputs:
  rows: {path: rows.parquet}
nodes:
  read:
    llm: {engine: nothing, prompt: "Read document {{ row.id }}: {{ row.body }}", max_tokens: 16}
  judge:
    llm: {engine: nothing, prompt: "Judge {{ row.id }}: {{ read.text }}", max_tokens: 16}
  write:
    llm: {engine: nothing, prompt: "Write about {{ row.id }}: {{ judge.text }}", max_tokens: 16}
outputs: {id: "{{ row.id }}", text: "{{ write.text }}"}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    sizes = parser.parse_args().rows
    runs = [measure(num_rows) for num_rows in sizes]
    save(
        "overhead",
        {
            "target": "8,000 calls/s; peak memory under 1.5 GB at 1,000,000 rows and at most 1.3 times that at 100,000",
            "runs": runs,
            "memory_ratio": round(runs[-1]["peak_memory_mb"] / runs[0]["peak_memory_mb"], 3),
        },
    )


def measure(num_rows: int) -> dict[str, Any]:
    """One whole `sundog run` over `num_rows` generated rows."""
    with tempfile.TemporaryDirectory(prefix="sundog-overhead-") as name:
        folder = Path(name)
        (folder / "flow.yaml").write_text(FLOW)
        duckdb.sql(
            "copy (select range as id, 'body of document ' || range as body"
            f" from range({num_rows})) to '{folder / 'rows.parquet'}'"
        )
        command = sundog("run", folder / "flow.yaml", "--output", folder / "out.parquet", "--state", folder / "state")
        begin_s = time.perf_counter()
        process = subprocess.Popen([*command, "--quiet"], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - begin_s
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, f"sundog run ended with {process.returncode}"
        cpu_s = usage.ru_utime + usage.ru_stime
        store_mb = sum(file.stat().st_size for file in (folder / "state").rglob("*") if file.is_file()) / 1e6
        return {
            "num_rows": num_rows,
            "num_calls": num_rows * NUM_STEPS,
            "wall_s": round(wall_s, 2),
            "cpu_s": round(cpu_s, 2),
            "calls_per_wall_s": round(num_rows * NUM_STEPS / wall_s),
            "calls_per_cpu_s": round(num_rows * NUM_STEPS / cpu_s),
            "peak_memory_mb": round(usage.ru_maxrss / 1024, 1),
            "state_folder_mb": round(store_mb, 1),
        }


if __name__ == "__main__":
    main()
