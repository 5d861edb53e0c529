"""Many rows through an unnest, a group and a reduction, on the null engine: what memory does a run take, and what does
a run cost that is killed again and again?

Each run is a process of its own, measured by the system.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
from counted import VARIABLE, command
from machine import save

MAX_CONCURRENCY = 256
MAX_ROWS_IN_FLIGHT = 2048
"""The default. Each has one call that is asked, or answered and not yet committed."""
PARTS_OF_A_ROW = 4
ROWS_OF_A_GROUP = 1000
OUTPUTS = ("parts", "groups")
FLOW = """
name: tables
engines:
  nothing: {kind: counted, max_concurrency: {max_concurrency}}
inputs:
  rows: {path: rows.parquet}
tables:
  parts:
    query: select r.id, p.part, (r.id * 7919) % {num_groups} as topic from rows r, unnest(r.parts) as p(part)
    nodes:
      read: {llm: {engine: nothing, prompt: "Read {{ row.part }}", max_tokens: 16}}
    outputs: {id: "{{ row.id }}", topic: "{{ row.topic }}", text: "{{ read.text }}"}
  groups:
    reduce:
      source: parts
      by: topic
      text: text
      engine: nothing
      prompt: "Sum up {{ row.topic }}."
      max_tokens: 40
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="after the unnest")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    runs = [measure(num_rows, arguments.kills, random.Random(arguments.seed)) for num_rows in arguments.rows]
    save(
        "tables",
        {
            "target": "peak memory under 1.5 GB at 1,000,000 rows and at most 1.3 times that at 100,000; equal bytes",
            "runs": runs,
            "memory_ratio": round(runs[-1]["peak_memory_mb"] / runs[0]["peak_memory_mb"], 3),
        },
    )


def flow(num_rows: int) -> str:
    groups = FLOW.replace("{num_groups}", str(num_rows // ROWS_OF_A_GROUP))
    return groups.replace("{max_concurrency}", str(MAX_CONCURRENCY))


def measure(num_rows: int, num_kills: int, chance: random.Random) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="sundog-tables-") as name:
        folder = Path(name)
        (folder / "flow.yaml").write_text(flow(num_rows))
        duckdb.sql(
            f"copy (select range as id, ['part ' || range || ' ' || n for n in range({PARTS_OF_A_ROW})] as parts"
            f" from range({num_rows // PARTS_OF_A_ROW})) to '{folder / 'rows.parquet'}'"
        )
        begin_s = time.perf_counter()
        status, usage = wait(start(folder, "calm"))
        wall_s = time.perf_counter() - begin_s
        assert status == 0, f"sundog run ended with {status}"
        one_pass = num_counted(folder, "calm")
        result = {
            "num_rows": num_rows,
            "num_calls": one_pass,
            "wall_s": round(wall_s, 2),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
            "peak_memory_mb": round(usage.ru_maxrss / 1024, 1),
            "state_folder_mb": round(
                sum(file.stat().st_size for file in (folder / "calm").rglob("*") if file.is_file()) / 1e6, 1
            ),
        }
        return {**result, **killed(folder, num_kills, one_pass, chance)} if num_kills else result


def killed(folder: Path, num_kills: int, one_pass: int, chance: random.Random) -> dict[str, Any]:
    """The same run killed `num_kills` times, spread over one pass of `one_pass` calls, and then ended."""
    cpu_s = 0.0
    for index in range(num_kills):
        process = start(folder, "killed")
        until = one_pass * (index + chance.random()) / num_kills
        while num_counted(folder, "killed") < until and process.poll() is None:
            time.sleep(0.02)
        assert process.returncode is None, f"the run ended before kill {index}"
        process.send_signal(signal.SIGKILL)
        cpu_s += _cpu_s(wait(process)[1])
    status, usage = wait(start(folder, "killed"))
    assert status == 0, f"sundog run ended with {status}"
    return {
        "num_kills": num_kills,
        "calls_made_again": num_counted(folder, "killed") - one_pass,
        "allowed_again": num_kills * MAX_ROWS_IN_FLIGHT,
        "killed_cpu_s": round(cpu_s + _cpu_s(usage), 2),
        "killed_peak_memory_mb": round(usage.ru_maxrss / 1024, 1),
        "is_result_equal": all(digest(folder, "killed", table) == digest(folder, "calm", table) for table in OUTPUTS),
    }


def _cpu_s(usage: Any) -> float:
    return float(usage.ru_utime + usage.ru_stime)


def start(folder: Path, name: str) -> subprocess.Popen[bytes]:
    outputs = [word for table in OUTPUTS for word in ("--output", f"{table}={name}_{table}.jsonl")]
    words = command("run", "flow.yaml", *outputs, "--state", name, "--quiet")
    environment = {**os.environ, VARIABLE: f"{name}.counted"}
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, env=environment)


def num_counted(folder: Path, name: str) -> int:
    file = folder / f"{name}.counted"
    return file.stat().st_size if file.exists() else 0


def wait(process: subprocess.Popen[bytes]) -> tuple[int, Any]:
    """(exit status, what the system says that it used)."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage


def digest(folder: Path, name: str, table: str) -> str:
    return hashlib.sha256((folder / f"{name}_{table}.jsonl").read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
