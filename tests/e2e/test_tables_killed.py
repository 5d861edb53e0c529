"""A run over several tables that is killed again and again: equal bytes, and only what was in flight is asked again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.counting_server import CountingServer
from tests.e2e.processes import NUM_AT_ONCE, kill_after, run

pytestmark = pytest.mark.slow

NUM_ROWS = 20
OUTPUTS = ("asked", "parts", "groups")
COMMAND = ("run", "flow.yaml", *(word for name in OUTPUTS for word in ("--output", f"{name}={name}.jsonl")))
FLOW = """
name: killed
inputs: {{rows: {{path: rows.jsonl}}}}
limits: {{"{origin}": {{max_concurrency: {num_at_once}}}}}
tables:
  asked:
    from: rows
    nodes: {{ask: {{http: {{url: "{origin}/{{{{ row.id }}}}"}}}}}}
    outputs: {{id: "{{{{ ask.json.row }}}}", kind: "{{{{ row.kind }}}}", parts: "{{{{ [row.id, row.id + 100] }}}}"}}
    types: {{parts: "BIGINT[]"}}
  parts:
    query: select a.kind, p.part + 1000 as number from asked a, unnest(a.parts) as p(part)
    nodes: {{more: {{http: {{url: "{origin}/{{{{ row.number }}}}"}}}}}}
    outputs: {{kind: "{{{{ row.kind }}}}", number: "{{{{ more.json.row }}}}"}}
    types: {{number: BIGINT}}
  groups:
    query: select kind, count(*) as n, sum(number) as total from parts group by kind
    nodes: {{last: {{http: {{url: "{origin}/{{{{ row.n + 5000 }}}}"}}}}}}
    outputs: {{kind: "{{{{ row.kind }}}}", total: "{{{{ row.total }}}}", last: "{{{{ last.json.row }}}}"}}
"""


def write_flow(folder: Path, origin: str) -> None:
    (folder / "flow.yaml").write_text(FLOW.format(origin=origin, num_at_once=NUM_AT_ONCE))
    rows = ({"id": number, "kind": f"kind {number % 3}"} for number in range(NUM_ROWS))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def written(folder: Path) -> list[bytes]:
    return [(folder / f"{name}.jsonl").read_bytes() for name in OUTPUTS]


def test_a_run_over_tables_that_is_killed_gives_the_same_bytes(tmp_path: Path) -> None:
    with CountingServer() as server:
        calm = tmp_path / "calm"
        calm.mkdir()
        write_flow(calm, server.origin)
        code, _, stderr = run(calm, *COMMAND)
        assert code == 0, stderr
        num_whole = len(server.asked)
        assert num_whole == NUM_ROWS + 2 * NUM_ROWS + 2, "two groups are of one size, and so one request"
        server.asked.clear()
        write_flow(tmp_path, server.origin)
        server.shut_gate()
        num_killed = 0
        for num_more in (0, 5, 14, 3, 20, 13, 1, 2):
            kill_after(tmp_path, server, num_more, *COMMAND)
            num_killed += 1
        server.open_gate()
        code, _, stderr = run(tmp_path, *COMMAND)
        assert code == 0, stderr
        assert written(tmp_path) == written(calm)
        assert len(server.asked) <= num_whole + num_killed * 2 * NUM_AT_ONCE
