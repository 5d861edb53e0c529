"""The rewritten plan against the naive one on a model: the same bytes, for fewer tokens."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.cli.flows import report_of, sundog
from tests.engines.test_openvino import needs_model

pytestmark = needs_model

FLOW = """
name: filings
engines:
  local: {kind: openvino, model: smollm2-135m, precision: batch_invariant}
inputs:
  rows: {path: rows.jsonl}
nodes:
  filing:
    sql:
      database: "sqlite:///filings.db"
      query: "select body from filing where id = :id"
      params: {id: "{{ row.filing }}"}
  facts:
    llm: {engine: local, prompt: "{{ filing[0].body }}\\n\\nList the figures about {{ row.topic }}.", max_tokens: 16}
  wanted:
    filter: "{{ row.year > 2000 }}"
  answer:
    llm:
      engine: local
      prompt: "{{ filing[0].body }}\\n\\n{{ facts.text }}\\n\\n{{ row.question }}"
      output: {answer: str, unit: [none, thousand, million]}
      max_tokens: 32
  audit:
    when: "{{ row.topic == 'sales' }}"
    llm: {engine: local, prompt: "{{ facts.text }}\\n\\nIs this right: {{ answer.answer }}", max_tokens: 12}
  unread:
    llm: {engine: local, prompt: "Say something about {{ row.topic }}.", max_tokens: 4}
outputs: {question: "{{ row.question }}", answer: "{{ answer.answer }}", audit: "{{ audit.text }}"}
"""
BODY = "In {} the company sold {} million machines, {} more than before, and paid {} people in its factories. "
ROWS: list[dict[str, Any]] = [
    {
        "filing": row // 3,
        "topic": "sales" if row % 2 else "staff",
        "year": 1999 + row % 4,
        "question": f"How many? {row}",
    }
    for row in range(8)
]


def write(folder: Path) -> None:
    (folder / "flow.yaml").write_text(FLOW)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with closing(sqlite3.connect(folder / "filings.db")) as connection:
        connection.execute("create table filing (id integer primary key, body text)")
        bodies = [
            (number, "".join(BODY.format(2000 + year, number, year, 70) for year in range(4))) for number in range(3)
        ]
        connection.executemany("insert into filing values (?, ?)", bodies)
        connection.commit()


def test_the_naive_run_and_the_rewritten_one_give_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path)
    reports: dict[str, dict[str, Any]] = {}
    outputs: dict[str, bytes] = {}
    for name, options in {"naive": ["--naive"], "rewritten": []}.items():
        command = ("run", "flow.yaml", "--output", f"{name}.jsonl", "--state", name, "--json", *options)
        ran = sundog(tmp_path, *command)
        assert ran.exit_code == 0, ran.stderr
        reports[name], outputs[name] = report_of(ran), (tmp_path / f"{name}.jsonl").read_bytes()
    assert outputs["rewritten"] == outputs["naive"]
    assert len(outputs["naive"].splitlines()) == sum(row["year"] > 2000 for row in ROWS) == 4
    executed = {
        name: {node["node"]: node["num_executed"] for node in report["nodes"]} for name, report in reports.items()
    }
    assert executed["naive"] == {"filing": 8, "facts": 8, "answer": 4, "audit": 2, "unread": 4}
    assert executed["rewritten"] == {"filing": 3, "facts": 4, "answer": 4, "audit": 2}
    assert reports["rewritten"]["num_prompt_tokens"] < reports["naive"]["num_prompt_tokens"]
