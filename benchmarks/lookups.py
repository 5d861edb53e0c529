"""Point look-ups, gathered into one query and one by one: a whole `sundog run` on each database there is.

SQLite always; PostgreSQL where SUNDOG_TEST_POSTGRES_URL names one (scripts/with_postgres.sh COMMAND). The arms take
turns; seconds are those that the run itself reports, without the start of the process.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from machine import save, sundog
from sqlalchemy import create_engine, text

NUM_LOOKUPS = 5_000
NUM_ROUNDS = 3
ARMS = {"gathered": (), "alone": ("--no-rule", "gather_lookups")}
FLOW = """
name: lookups
inputs:
  rows: {{path: rows.jsonl}}
nodes:
  doc:
    sql:
      database: "{database}"
      query: "select body from sundog_docs where {column} = :key"
      params: {{key: "{{{{ row.key }}}}"}}
outputs: {{key: "{{{{ row.key }}}}", body: "{{{{ doc }}}}"}}
"""


def main() -> None:
    databases = {"sqlite": "sqlite:///docs.db"}
    if url := os.environ.get("SUNDOG_TEST_POSTGRES_URL"):
        databases["postgresql"] = url
    with tempfile.TemporaryDirectory(prefix="sundog-lookups-") as name:
        runs = [
            {"database": kind, "column": column, **measure(Path(name), url, column)}
            for kind, url in databases.items()
            for column in ("id", "name", "plain", "twice")
        ]
    save("lookups", {"num_lookups": NUM_LOOKUPS, "num_rounds": NUM_ROUNDS, "runs": runs})


def measure(folder: Path, url: str, column: str) -> dict[str, Any]:
    """Median seconds of each arm. `column`: a primary key, an indexed text, a column without index, and one of which
    every key has two rows, so that each look-up is made alone in the end."""
    fill(folder, url)
    keys = ({"key": number if column == "id" else f"key {number}"} for number in range(NUM_LOOKUPS))
    (folder / "rows.jsonl").write_text("".join(json.dumps(key) + "\n" for key in keys))
    (folder / "flow.yaml").write_text(FLOW.format(database=url, column=column))
    taken: dict[str, list[float]] = {arm: [] for arm in ARMS}
    outputs = set()
    for number, (arm, options) in enumerate(turns()):
        command = sundog(
            "run", "flow.yaml", "--state", f"{column}-{number}", "--output", "out.jsonl", "--json", *options
        )
        ran = subprocess.run(command, cwd=folder, check=True, capture_output=True)
        taken[arm].append(json.loads(ran.stdout)["busy_s"])
        outputs.add((folder / "out.jsonl").read_bytes())
        shutil.rmtree(folder / f"{column}-{number}")
    assert len(outputs) == 1, "the arms must give the same bytes"
    seconds = {f"{arm}_s": round(statistics.median(times), 3) for arm, times in taken.items()}
    return {**seconds, "speedup": round(seconds["alone_s"] / seconds["gathered_s"], 2)}


def turns() -> Iterator[tuple[str, tuple[str, ...]]]:
    for _ in range(NUM_ROUNDS):
        yield from ARMS.items()


def fill(folder: Path, url: str) -> None:
    columns = "id integer primary key, name text, plain text, twice text, body text"
    rows = [
        (number, f"key {number}", f"key {number}", f"key {number // 2}", f"body of document {number} " * 20)
        for number in range(2 * NUM_LOOKUPS)
    ]
    statements = ("drop table if exists sundog_docs", f"create table sundog_docs ({columns})")
    indexes = ("create index sundog_name on sundog_docs (name)", "create index sundog_twice on sundog_docs (twice)")
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(folder / "docs.db")) as connection:
            for statement in (*statements, *indexes):
                connection.execute(statement)
            connection.executemany("insert into sundog_docs values (?, ?, ?, ?, ?)", rows)
            connection.commit()
        return
    engine = create_engine(url)
    names = ("id", "name", "plain", "twice", "body")
    with engine.begin() as opened:
        for statement in (*statements, *indexes):
            opened.execute(text(statement))
        insert = text(f"insert into sundog_docs values ({', '.join(f':{name}' for name in names)})")
        opened.execute(insert, [dict(zip(names, row, strict=True)) for row in rows])
    with engine.begin() as opened:
        opened.execute(text("analyze sundog_docs"))
    engine.dispose()


if __name__ == "__main__":
    main()
