"""The flows as files: every LLM step on the engine `local`, rows and data beside them or by URL."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from halo.inputs import make_rows
from halo.workloads.catalog import FLOWS, PUBLISHED, WORKLOADS, open_data
from halo.workloads.dialect import adapt
from ruamel.yaml import YAML

from sundog.config import read_config

HERE = Path(__file__).parent
SERVER = "http://127.0.0.1:8731"
TPCH_SCALE = 0.01
MAX_REPORT_CHARACTERS = 3000
"""Models of this size have contexts of 2,048 tokens."""
Flow = dict[str, Any]


def workload_flows(folder: Path, block: Mapping[str, Any], base_url: str, num_rows: int, seed: int) -> Iterator[Path]:
    """Write the published workloads W1 to W6, each into a folder of its own."""
    for name in PUBLISHED:
        flow = _read(FLOWS / f"{name}.yaml")
        url = open_data(WORKLOADS[name].data, TPCH_SCALE, None, read_config().secrets)
        for node in flow["nodes"].values():
            if "sql" in node:
                node["sql"] |= {"database": url, "query": adapt(node["sql"]["query"], url)}
            if "http" in node:
                node["http"]["url"] = node["http"]["url"].replace(SERVER, base_url)
        path = _write(folder / name, flow, block, make_rows(name, num_rows, "halo", seed))
        shutil.copy(FLOWS / "parameters.py", path.parent)
        yield path


def tatqa_flows(folder: Path, block: Mapping[str, Any], tatqa: Path, num_rows: int) -> Iterator[Path]:
    """Write the three flows over `num_rows` questions of TAT-QA's file `tatqa` (JSON)."""
    rows = _questions(tatqa, num_rows)
    for path in sorted(HERE.glob("tatqa_*.yaml")):
        yield _write(folder / path.stem, _read(path), block, rows)


def _questions(tatqa: Path, num_rows: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for context in json.loads(tatqa.read_text()):
        table = "\n".join(" | ".join(cells) for cells in context["table"]["table"])
        report = "\n\n".join([table, *(paragraph["text"] for paragraph in context["paragraphs"])])
        if len(report) <= MAX_REPORT_CHARACTERS:
            rows += ({"report": report, "question": one["question"]} for one in context["questions"])
        if len(rows) >= num_rows:
            break
    return [{"id": number, **row} for number, row in enumerate(rows[:num_rows])]


def _read(path: Path) -> Flow:
    flow: Flow = YAML(typ="safe").load(path.read_text())
    return flow


def _write(folder: Path, flow: Flow, block: Mapping[str, Any], rows: list[dict[str, Any]]) -> Path:
    for node in flow["nodes"].values():
        if "llm" in node:
            node["llm"]["engine"] = "local"
    flow["engines"] = {"local": dict(block)}
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "flow.yaml"
    # JSON is YAML, and says every text as it is.
    path.write_text(json.dumps(flow, indent=1))
    return path
