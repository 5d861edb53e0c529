"""This benchmark measures how far the makespan that `explain` foretells is from what a run takes.

python benchmarks/estimates.py --repeats 3

After one calibration of the embedded engine (`sundog calibrate`) and one earlier run of each flow: the repository's
examples and three others. Every run begins anew; engines are started before the makespan begins.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from machine import save, sundog

EXAMPLES = Path(__file__).parents[1] / "examples"
ENGINES = "engines:\n  local: {kind: openvino, model: smollm2-135m}\n"
WORDS = (
    *("river", "stone", "winter", "garden", "silver", "music", "letter", "window", "summer", "forest", "candle"),
    *("paper", "mountain", "bridge", "ocean"),
)
FLOWS = {
    "one_step": """
nodes:
  label: {llm: {engine: local, prompt: "{{ row.text }}\\n\\nName the topic.", max_tokens: 24}}
outputs: {id: "{{ row.id }}", label: "{{ label.text }}"}
""",
    "three_steps": """
nodes:
  facts: {llm: {engine: local, prompt: "{{ row.document }}\\n\\nList what it says of {{ row.topic }}.", max_tokens: 32}}
  answer: {llm: {engine: local, prompt: "{{ row.document }}\\n\\n{{ facts.text }}\\n\\nSum it up.", max_tokens: 24}}
  check: {llm: {engine: local, prompt: "{{ row.document }}\\n\\n{{ answer.text }}\\n\\nRight?", max_tokens: 8}}
outputs: {id: "{{ row.id }}", check: "{{ check.text }}"}
""",
    "with_a_tool": """
nodes:
  look:
    sql: {database: "sqlite:///facts.db", query: "select body from fact where id = :id", params: {id: "{{ row.id }}"}}
  answer: {llm: {engine: local, prompt: "{{ look[0].body }}\\n\\n{{ row.text }}\\n\\nWhy?", max_tokens: 48}}
  again:
    when: "{{ row.id % 2 == 0 }}"
    llm: {engine: local, prompt: "{{ answer.text }}\\n\\nShorter.", max_tokens: 16}
outputs: {id: "{{ row.id }}", answer: "{{ answer.text }}", again: "{{ again.text }}"}
""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="sundog-estimates-") as name:
        folder = Path(name)
        make_inputs(folder)
        flows = {example.name: example / "flow.yaml" for example in sorted(EXAMPLES.iterdir()) if example.is_dir()}
        for flow, steps in FLOWS.items():
            flows[flow] = folder / f"{flow}.yaml"
            flows[flow].write_text(f"name: {flow}\n{ENGINES}inputs:\n  rows: {{path: rows.jsonl}}\n{steps.lstrip()}")
        for flow, path in flows.items():
            command = (path, "--state", folder / "state" / flow, "--output", folder / f"{flow}.csv")
            subprocess.run(sundog("run", *command), check=True, capture_output=True)
            runs = [measure(command) for _ in range(given.repeats)]
            found[flow] = {
                "off_by": round(statistics.median(abs(run["off_by"]) for run in runs), 3),
                "num_in_range": sum(run["is_in_range"] for run in runs),
                "runs": runs,
            }
            print(flow, found[flow], flush=True)
    runs = [run for flow in found.values() for run in flow["runs"]]
    in_range = sum(run["is_in_range"] for run in runs) / len(runs)
    save("estimates", {"target": "20 %, in range 9 of 10", "share_in_range": round(in_range, 3), "flows": found})


def measure(command: tuple[str | Path, ...]) -> dict[str, Any]:
    ran = subprocess.run(
        sundog("explain", *command, "--analyze", "--fresh", "--format", "json"), check=True, capture_output=True
    )
    document = json.loads(ran.stdout)
    estimate, actual_s = document["makespan_s"], document["actual_makespan_s"]
    return {
        **{end: round(estimate[end], 2) for end in ("low", "expected", "high")},
        "actual_s": round(actual_s, 2),
        "off_by": round(estimate["expected"] / actual_s - 1, 3),
        "is_in_range": estimate["low"] <= actual_s <= estimate["high"],
    }


def make_inputs(folder: Path) -> None:
    chance = random.Random(1)
    documents = [" ".join(chance.choices(WORDS, k=chance.randint(150, 300))) for _ in range(10)]
    with (folder / "rows.jsonl").open("w") as file:
        for i in range(60):
            row = {"id": i, "text": " ".join(chance.choices(WORDS, k=chance.randint(20, 120))), "topic": WORDS[i % 6]}
            file.write(json.dumps({**row, "document": documents[i // 6]}) + "\n")
    with sqlite3.connect(folder / "facts.db") as connection:
        connection.execute("create table fact (id integer primary key, body text)")
        bodies = [(i, " ".join(chance.choices(WORDS, k=40))) for i in range(60)]
        connection.executemany("insert into fact values (?, ?)", bodies)


if __name__ == "__main__":
    main()
