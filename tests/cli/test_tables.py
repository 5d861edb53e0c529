"""The words of the command line for flows with tables."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cli.flows import sundog

FLOW = """
name: wards
inputs: {visits: visits.csv, names: names.csv}
tables:
  visited: {from: visits, outputs: {ward: "{{ row.ward }}"}}
  seen: {from: visits, outputs: {ward: "{{ row.ward }}"}}
  named: {query: select v.ward from visited v join names n on n.ward = v.ward}
results: [named, seen]
"""


def write_wards(folder: Path) -> None:
    (folder / "flow.yaml").write_text(FLOW)
    (folder / "visits.csv").write_text("ward\n1\n1\n2\n")
    (folder / "names.csv").write_text("ward\n1\n2\n")


def test_the_head_of_a_run_counts_the_rows_of_each_input_once(tmp_path: Path) -> None:
    write_wards(tmp_path)
    ran = sundog(tmp_path, "run", "flow.yaml", "--output", "named=named.csv", "--output", "seen=seen.csv")
    assert ran.exit_code == 0, ran.stderr
    assert re.match(r"run wards-\w{8}: new, 5 input rows\n", ran.stderr)


JOIN = """
name: pairs
engines: {local: {kind: "null"}}
inputs: {short: short.csv, long: long.csv}
tables:
  unread: {from: short, outputs: {text: "{{ row.text }}"}}
  found:
    join: {left: short, right: long, engine: local, prompt: "Is {{ row.left.text }} in {{ row.right.text }}?"}
results: [found]
"""


def test_explain_advises_on_the_pairs_of_a_join(tmp_path: Path) -> None:
    """A table that is not made is in nobody's way."""
    (tmp_path / "flow.yaml").write_text(JOIN)
    (tmp_path / "short.csv").write_text("text\n" + "".join(f"{number:09}\n" for number in range(20)))
    (tmp_path / "long.csv").write_text("text\n" + "".join(f"{number} {'word ' * 80}\n" for number in range(4)))
    explained = sundog(tmp_path, "explain", "flow.yaml")
    assert explained.exit_code == 0, explained.stderr
    assert "advice, from 80 rows; sundog changes no prompt by itself\n" in explained.stdout
    assert "found__judge: put row.right.text before row.left.text to save about 7,400 of" in explained.stdout
