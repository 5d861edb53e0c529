"""One job of each of DocETL, LOTUS and LangGraph, as a flow and as the peer does it: lines, calls and prompt tokens.

All ask one scripted server, so that the answers are the same. The peers stand in an environment of their own:
`python -m venv DIR; DIR/bin/pip install docetl lotus-ai langgraph langchain-openai`, then
`python benchmarks/table_peers.py --peers DIR/bin/python`. Prompt tokens are words of messages, tools and schemas.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from machine import save
from scripted_endpoint import ScriptedEndpoint

JOBS = Path(__file__).parent / "peers"
PEERS = {
    "medications": ("docetl", "docetl.yaml"),
    "reviews": ("lotus", "lotus.job"),
    "questions": ("langgraph", "langgraph.job"),
}
DRUGS = ("Aspirin", "aspirin", "Statin", "statin", "Insulin", "insulin", "Codeine")


def write_rows(folder: Path) -> None:
    """Write the three jobs' rows: visits all differ, of reviews and questions some repeat."""
    visits = [
        {"visit": n, "notes": f"visit {n}: the patient takes {DRUGS[n % 7]} and takes {DRUGS[(n // 2 + 3) % 7]}."}
        for n in range(40)
    ]
    (folder / "visits.json").write_text(json.dumps(visits))
    kinds = ["complaint" if n % 24 % 3 == 0 else "praise" for n in range(60)]
    products = [("kettle", "lamp", "rug")[n % 24 % 4 % 3] for n in range(60)]
    reviews = [[n, f"{kinds[n]} about the {products[n]}, severity {n % 24}"] for n in range(60)]
    _write_csv(folder / "reviews.csv", ["id", "text"], reviews)
    _write_csv(folder / "products.csv", ["name", "price"], [["kettle", 30], ["lamp", 20], ["rug", 90]])
    questions = [[n, f"Where was the star of film{n % 20} born?"] for n in range(40)]
    _write_csv(folder / "questions.csv", ["id", "question"], questions)


def _write_csv(path: Path, head: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def num_lines(path: Path) -> int:
    """Return the lines that are neither empty nor a comment."""
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in path.read_text().splitlines())


def answers_of(path: Path) -> list[str]:
    """Return the rows of a job in one form, whatever its columns are called."""
    text = path.read_text()
    rows = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    kept = [[row.get(key) for key in ("id", "answer", "text", "name", "summary")] for row in rows]
    drugs = [row.get("medication", row.get("medications")) for row in rows]
    return sorted(json.dumps([*one, drug]) for one, drug in zip(kept, drugs, strict=True))


def compare(job: str, folder: Path, peers: str, server: ScriptedEndpoint) -> dict[str, Any]:
    """Run a job both ways and return what each took."""
    peer, written = PEERS[job]
    out = {
        "sundog": folder / f"{job}.jsonl",
        "peer": folder / (f"{peer}.json" if peer == "docetl" else f"{peer}.jsonl"),
    }
    environment = os.environ | {
        "PEERS_URL": server.url, "OPENAI_API_BASE": server.url, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "none",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HOME": str(folder),
    }  # fmt: skip
    flow = [sys.executable, "-m", "sundog", "run", f"{job}.yaml", "--state", "state", "--output", out["sundog"].name]
    found: dict[str, Any] = {"peer": peer}
    for name, command in (("sundog", flow), (peer, [peers, f"{peer}.job"])):
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        found[name] = server.take()
    found["sundog"]["lines"], found[peer]["lines"] = num_lines(JOBS / f"{job}.yaml"), num_lines(JOBS / written)
    found["has_same_answers"] = answers_of(out["sundog"]) == answers_of(out["peer"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True, help="the interpreter of the environment that has the peers")
    peers = parser.parse_args().peers
    with TemporaryDirectory() as name, ScriptedEndpoint() as server:
        folder = Path(name)
        shutil.copytree(JOBS, folder, dirs_exist_ok=True)
        write_rows(folder)
        save("table_peers", {"jobs": {job: compare(job, folder, peers, server) for job in PEERS}})


if __name__ == "__main__":
    main()
