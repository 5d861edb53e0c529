"""A copy of an example in a folder of its own, where its engine can be another one."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cli.flows import report_of, sundog

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EMBEDDED = "{kind: openvino, model: smollm2-135m}"
NULL = '{kind: "null"}'
ONE_BY_ONE = ("--max-rows-in-flight", "1")


@dataclass(frozen=True, slots=True)
class Finished:
    """`rows` as read from the output file; `report` as printed with --json."""

    rows: list[dict[str, Any]]
    report: dict[str, Any]

    def calls(self, step: str) -> tuple[int, int]:
        """(asked for, executed)"""
        (node,) = [node for node in self.report["nodes"] if node["node"] == step]
        return node["num_asked"], node["num_executed"]


def copy_example(name: str, folder: Path, engine: str) -> None:
    """The example's files without what an earlier run has left there."""
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__", "*.db", ".sundog"))
    flow = folder / "flow.yaml"
    text = flow.read_text()
    assert text.count(EMBEDDED) == 1, "every example has one engine, the embedded one"
    flow.write_text(text.replace(EMBEDDED, engine))


def run_example(folder: Path, *options: str, output: str = "out.jsonl") -> Finished:
    ran = sundog(folder, "run", "flow.yaml", "--output", output, "--json", *options)
    assert ran.exit_code == 0, ran.stderr
    return Finished(read_rows(folder / output.rpartition("=")[2]), report_of(ran))


def read_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]
