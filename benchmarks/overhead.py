"""The coordinator's own cost: three steps per row on the null engine, store on, nothing to share.

Each size runs in a process of its own, measured by the system: wall time, CPU time, peak resident memory. With
`--against COMMIT` that commit and this tree run in turns, in the same interpreter, and their medians are compared.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
from machine import facts, save

NUM_STEPS = 3
TREE = Path(__file__).parent.parent
ENTRY = "from sundog.cli.main import entry; entry()"
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
    parser.add_argument("--rows", type=int, nargs="+", help="default: 100,000 and 1,000,000; --against: 20,000")
    parser.add_argument("--against", metavar="COMMIT", help="compare with that commit, in turns")
    parser.add_argument("--turns", type=int, default=5, help="of --against")
    options = parser.parse_args()
    if options.against:
        num_rows = (options.rows or [20_000])[0]
        save("overhead", compare(options.against, num_rows, options.turns))
        return
    runs = [measure(num_rows, TREE) for num_rows in options.rows or [100_000, 1_000_000]]
    save(
        "overhead_sizes",
        {
            "target": "8,000 calls/s; peak memory under 1.5 GB at 1,000,000 rows and at most 1.3 times that at 100,000",
            "runs": runs,
            "memory_ratio": round(runs[-1]["peak_memory_mb"] / runs[0]["peak_memory_mb"], 3),
        },
    )


def compare(commit: str, num_rows: int, num_turns: int) -> dict[str, Any]:
    """This tree and `commit`, one after the other, `num_turns` times; the first turn of each warms files up."""
    with checked_out(commit) as other:
        measure(1000, other), measure(1000, TREE)
        turns = [(measure(num_rows, other), measure(num_rows, TREE)) for _ in range(num_turns)]
    old = {name: median(turn[0][name] for turn in turns) for name in turns[0][0]}
    new = {name: median(turn[1][name] for turn in turns) for name in turns[0][1]}
    return {
        "target": "1.4 times the calls of a second of 84782c0",
        "num_turns": num_turns,
        "against": {"commit": commit, **old},
        "now": {"commit": facts()["commit"], **new},
        "ratio_calls_per_wall_s": round(new["calls_per_wall_s"] / old["calls_per_wall_s"], 2),
        "ratio_calls_per_cpu_s": round(new["calls_per_cpu_s"] / old["calls_per_cpu_s"], 2),
        "calls_per_wall_s_of_turns": [[turn[side]["calls_per_wall_s"] for turn in turns] for side in (0, 1)],
    }


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The tree of a commit in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="sundog-commit-") as name:
        tree = Path(name) / "tree"
        git = ["git", "-C", str(TREE), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def write_entry_points(tree: Path, folder: Path) -> Path:
    """Write the metadata that names the engines and operators of `tree`, which the installed one need not have, into
    `folder`, and return it."""
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    info = folder / f"sundog-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sundog\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    sections = (
        "\n".join((f"[{group}]", *(f"{name} = {value}" for name, value in names.items()))) for group, names in groups
    )
    (info / "entry_points.txt").write_text("\n\n".join(sections) + "\n")
    return folder


def measure(num_rows: int, tree: Path) -> dict[str, Any]:
    """One whole `sundog run` of the code in `tree` over `num_rows` generated rows."""
    with tempfile.TemporaryDirectory(prefix="sundog-overhead-") as name:
        folder = Path(name)
        (folder / "flow.yaml").write_text(FLOW)
        duckdb.sql(
            "copy (select range as id, 'body of document ' || range as body"
            f" from range({num_rows})) to '{folder / 'rows.parquet'}'"
        )
        files = ["flow.yaml", "--output", "out.parquet", "--state", "state"]
        command = [sys.executable, "-c", ENTRY, "run", *files, "--quiet"]
        path = os.pathsep.join((str(tree / "src"), str(write_entry_points(tree, folder / "metadata"))))
        environment = {**os.environ, "PYTHONPATH": path}
        begin_s = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder, env=environment)
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
            "cpu_ms_per_call": round(1e3 * cpu_s / (num_rows * NUM_STEPS), 4),
            "peak_memory_mb": round(usage.ru_maxrss / 1024, 1),
            "state_folder_mb": round(store_mb, 1),
        }


if __name__ == "__main__":
    main()
