"""`sundog explain` as a user waits for it: interpreter start included, 30 steps, 1,000,000 rows of parquet."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import duckdb
from machine import save, sundog

NUM_STEPS = 30
NUM_ROWS = 1_000_000
REPEATS = 7


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="sundog-explain-") as name:
        folder = Path(name)
        duckdb.sql(
            "copy (select range as id, 'body of document ' || range as body, range % 97 as topic"
            f" from range({NUM_ROWS})) to '{folder / 'rows.parquet'}'"
        )
        (folder / "flow.yaml").write_text(flow())
        seconds = [explain_s(folder) for _ in range(REPEATS)]
    save(
        "explain_speed",
        {
            "target": "within 2 s",
            "num_steps": NUM_STEPS,
            "num_rows": NUM_ROWS,
            "median_s": round(statistics.median(seconds), 3),
            "worst_s": round(max(seconds), 3),
        },
    )


def flow() -> str:
    lines = ["name: wide", "engines:", '  nothing: {kind: "null"}', "inputs:", "  rows: {path: rows.parquet}", "nodes:"]
    for number in range(NUM_STEPS):
        before = f"{{{{ s{number - 1}.text }}}}" if number else "{{ row.body }}"
        lines += [f"  s{number}:", f'    llm: {{engine: nothing, prompt: "{{{{ row.topic }}}} {before}"}}']
    lines.append(f'outputs: {{id: "{{{{ row.id }}}}", text: "{{{{ s{NUM_STEPS - 1}.text }}}}"}}')
    return "\n".join(lines) + "\n"


def explain_s(folder: Path) -> float:
    begin_s = time.perf_counter()
    subprocess.run(sundog("explain", folder / "flow.yaml"), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin_s


if __name__ == "__main__":
    main()
