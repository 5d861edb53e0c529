"""Groups, graphs and expansions that are killed again and again: equal bytes, and only what was in flight is asked
anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from sundog.engines.modelled.null import instance
from sundog.engines.structured.json_schema import read_schema
from tests.e2e.chat_server import ChatServer
from tests.e2e.processes import NUM_AT_ONCE, kill_after, run

pytestmark = pytest.mark.slow

NUM_ROWS = 30
HEAD = """
name: killed
engines: {{served: {{kind: openai, base_url: "{origin}/v1", model: m, max_concurrency: {num_at_once}}}}}
inputs: {{rows: {{path: rows.jsonl}}}}
tables:
  asked:
    from: rows
    nodes: {{ask: {{llm: {{engine: served, prompt: "About {{{{ row.id }}}}", max_tokens: 20}}}}}}
    outputs:
      {{id: "{{{{ row.id }}}}", kind: "{{{{ row.kind }}}}", word: "{{{{ row.word }}}}", text: "{{{{ ask.text }}}}"}}
"""
TABLES = {
    "collect": """
  told:
    collect: {query: "select kind, id, text from asked", by: kind, as: found}
    nodes: {tell: {llm: {engine: served, prompt: "Of {{ row.found | tojson }}", max_tokens: 20}}}
    outputs: {kind: "{{ row.kind }}", text: "{{ tell.text }}"}
""",
    "components": """
  told:
    components:
      nodes: select id from asked
      edges: "select a.id, b.id as other from asked a join asked b on a.text[:8] = b.text[:8] and a.id < b.id"
    nodes: {tell: {llm: {engine: served, prompt: "{{ row.id }} is of {{ row.component }}", max_tokens: 20}}}
    outputs: {id: "{{ row.id }}", component: "{{ row.component }}", text: "{{ tell.text }}"}
""",
    "resolve": """
  told:
    resolve:
      source: asked
      column: word
      engine: served
      prompt: "Is {{ row.left }} like {{ row.right }}?"
      block: {equal: "word[:1]"}
    nodes: {tell: {llm: {engine: served, prompt: "{{ row.id }} is {{ row.canonical }}", max_tokens: 20}}}
    outputs: {id: "{{ row.id }}", canonical: "{{ row.canonical }}", text: "{{ tell.text }}"}
""",
    "rank": """
  told:
    rank: {source: asked, engine: served, prompt: "How good is {{ row.text }}?", k: 8}
    nodes: {tell: {llm: {engine: served, prompt: "{{ row.id }} has {{ row.score }}", max_tokens: 20}}}
    outputs: {id: "{{ row.id }}", score: "{{ row.score }}", text: "{{ tell.text }}"}
""",
}
COMMAND = ("run", "flow.yaml", "--output", "told=told.jsonl", "--output", "asked=asked.jsonl")


def answer(body: Mapping[str, Any]) -> str:
    """Return an answer that follows from the prompt alone, of the form that is asked for."""
    entropy = int.from_bytes(blake2b(body["messages"][-1]["content"].encode(), digest_size=8).digest(), "big")
    if "response_format" not in body:
        return f"answer {entropy % 7}"
    return instance(read_schema(json.dumps(body["response_format"]["json_schema"]["schema"])), entropy)


def write_flow(folder: Path, origin: str, kind: str) -> None:
    (folder / "flow.yaml").write_text(HEAD.format(origin=origin, num_at_once=NUM_AT_ONCE) + TABLES[kind])
    rows = (
        {"id": number, "kind": f"kind {number % 9}", "word": f"{'ab'[number % 2]}{number % 12}"}
        for number in range(NUM_ROWS)
    )
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("kind", list(TABLES))
def test_groups_and_expansions_that_are_killed_give_the_same_bytes(tmp_path: Path, kind: str) -> None:
    with ChatServer(answer) as server:
        calm = tmp_path / "calm"
        calm.mkdir()
        write_flow(calm, server.origin, kind)
        code, _, stderr = run(calm, *COMMAND)
        assert code == 0, stderr
        num_whole = len(server.asked)
        assert num_whole > NUM_ROWS + 5
        server.asked.clear()
        write_flow(tmp_path, server.origin, kind)
        server.shut_gate()
        num_killed = 0
        # The last ones are among the calls of the second table: each time those in flight are asked anew.
        for num_more in (0, 6, 11, NUM_ROWS - 12, 1, 2):
            kill_after(tmp_path, server, num_more, *COMMAND)
            num_killed += 1
        server.open_gate()
        code, _, stderr = run(tmp_path, *COMMAND)
        assert code == 0, stderr
        for name in ("told", "asked"):
            assert (tmp_path / f"{name}.jsonl").read_bytes() == (calm / f"{name}.jsonl").read_bytes()
        assert num_whole <= len(server.asked) <= num_whole + num_killed * 2 * NUM_AT_ONCE
