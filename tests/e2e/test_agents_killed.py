"""Conversations of agents that are killed again and again: they go on at the turn, and no effect happens twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.counting_server import CountingServer
from tests.e2e.model_server import ModelServer
from tests.e2e.processes import NUM_AT_ONCE, kill_after, run

pytestmark = pytest.mark.slow

NUM_ROWS = 12
NUM_USES = 5
COMMAND = ("run", "flow.yaml", "--output", "out.jsonl")
FLOW = """
name: agents
engines: {{model: {{kind: openai, base_url: "{base_url}", model: m}}}}
inputs: {{rows: {{path: rows.jsonl}}}}
limits: {{"{origin}": {{max_concurrency: {num_at_once}}}}}
tools:
  act:
    description: Do one step.
    parameters: {{step: int}}
    http: {{method: {method}, url: "{origin}/{{{{ row.id * 100 + args.step }}}}"}}
nodes:
  work: {{agent: {{engine: model, prompt: "Work on {{{{ row.id }}}}.", tools: [act], max_turns: 9}}}}
outputs: {{id: "{{{{ row.id }}}}", text: "{{{{ work.text }}}}", said: "{{{{ work.messages }}}}"}}
"""


def write_flow(folder: Path, origin: str, model: ModelServer, method: str, num_at_once: int, handed_to: str) -> None:
    flow = FLOW
    if handed_to:
        (folder / "part.yaml").write_text(FLOW_OF_PART.format(method=method, origin=origin))
        handed_on = HANDED_ON.replace("PART", PARTS[handed_to])
        flow = FLOW[: FLOW.index("nodes:")] + handed_on + FLOW.partition("outputs:")[2]
    text = flow.format(origin=origin, base_url=model.base_url, method=method, num_at_once=num_at_once)
    (folder / "flow.yaml").write_text(text)
    (folder / "rows.jsonl").write_text("".join(json.dumps({"id": number}) + "\n" for number in range(NUM_ROWS)))


class HandingServer(ModelServer):
    """Whoever is asked to hand on uses the tool `part` once for each use of `act`, with the number of that; whoever is
    asked for a part uses `act` once."""

    def message(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        asked = messages[0]["content"]
        if asked.startswith("Work on"):
            return self.answer(1) if len(messages) > 1 else self.use("act", int(asked.split()[-1]))
        turn = sum(one["role"] == "assistant" for one in messages)
        return self.use("part", turn) if turn < self.num_uses else self.answer(turn)


PARTS = {
    "agent": 'agent: {{engine: model, prompt: "Work on {{{{ row.id }}}}, part {{{{ args.step }}}}", tools: [act]}}',
    "flow": 'flow: {{file: part.yaml, with: {{id: "{{{{ row.id }}}}"}}}}',
}
HANDED_ON = """  part:
    description: Do one part.
    parameters: {{step: int}}
    PART
nodes:
  work: {{agent: {{engine: model, prompt: "Hand on {{{{ row.id }}}}.", tools: [part], max_turns: 9}}}}
outputs:"""


FLOW_OF_PART = """
nodes:
  act: {{http: {{method: {method}, url: "{origin}/{{{{ id * 100 + row.step }}}}"}}}}
constants: {{id: 0}}
outputs: {{status: "{{{{ act.status }}}}"}}
"""


@pytest.mark.parametrize("handed_to", ["", *PARTS])
@pytest.mark.parametrize(("method", "num_at_once"), [("GET", NUM_AT_ONCE), ("POST", 1)])
def test_conversations_go_on_at_the_turn(tmp_path: Path, method: str, num_at_once: int, handed_to: str) -> None:
    kind = HandingServer if handed_to else ModelServer
    with CountingServer(is_open=False) as server, kind(NUM_USES) as model:
        write_flow(tmp_path, server.origin, model, method, num_at_once, handed_to)
        num_killed = 0
        for num_more in (0, 9, 4, 7):
            kill_after(tmp_path, server, num_more, *COMMAND)
            num_killed += 1
        server.open_gate()
        code, _, stderr = run(tmp_path, *COMMAND)
        written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        # A conversation has one call in flight, or answered and not yet committed, when the run is killed.
        most = num_killed * NUM_ROWS
        # An agent has two turns for each part.
        num_turns = NUM_USES + 1 + (2 * NUM_USES if handed_to == "agent" else 0)
        assert model.num_asked <= NUM_ROWS * num_turns + most, "only what was in flight is asked again"
        assert {row["text"] for row in written} == {f"done after {NUM_USES}"}
        if method == "GET":
            assert code == 0, stderr
            assert len(written) == NUM_ROWS
            assert len(server.asked) <= NUM_ROWS * NUM_USES + most
        else:
            assert set(server.by_row.values()) == {1}, "an effect that may have happened is not repeated"
            # An effect in flight when the run is killed fails its row: nobody knows whether it happened. One is at
            # work at a time, and on a slow disk the one before may not be committed yet.
            assert len(written) >= NUM_ROWS - 2 * num_killed
            assert all(server.by_row[row["id"] * 100 + step] == 1 for row in written for step in range(NUM_USES))
