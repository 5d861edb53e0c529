"""Conversations of ten turns, each with an effect: what happens to 1,000 of them that are killed 20 times, and how many
prompt tokens does the embedded engine compute beside the least?
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from counted import VARIABLE, command
from least_work import distinct_prefix_minimum
from machine import save
from shared_documents import BLOCK_TOKENS, listened_to, read_calls, tokens

import sundog as sd

NUM_TURNS = 10
FLOW = """
name: agents
engines:
  nothing: {kind: counted, max_concurrency: 64}
inputs:
  rows: {path: rows.jsonl}
tools:
  note:
    description: Write down what was found.
    parameters: {text: str}
    sql:
      database: "sqlite:///notes.db"
      query: "insert into notes (conversation, text) values (:conversation, :text)"
      params: {conversation: "{{ row.id }}", text: "{{ args.text }}"}
nodes:
  work:
    agent:
      engine: nothing
      prompt: "Work on {{ row.id }}."
      tools: [note]
      tool_choice: required
      parallel_tools: false
      max_turns: 10
      max_tokens: 64
outputs: {id: "{{ row.id }}", turns: "{{ work.turns }}", stopped: "{{ work.stopped }}"}
"""
SYSTEM = "You look after a garden. You note what you see, in a few words, before you say anything."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--embedded", type=int, default=60, help="conversations on the embedded engine; 0 for none")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sundog-agents-") as name:
        killed = measure_kills(Path(name), arguments.conversations, arguments.kills, random.Random(arguments.seed))
    embedded = [measure_tokens(num, arguments.embedded) for num in (1, NUM_TURNS)] if arguments.embedded else []
    save(
        "agents",
        {
            "target": "no effect doubled; one pass plus what was in flight; at most 1.05 times the least prompt tokens",
            "killed": killed,
            "embedded": embedded,
        },
    )


def measure_kills(folder: Path, num_conversations: int, num_kills: int, chance: random.Random) -> dict[str, Any]:
    """The conversations once undisturbed, and once killed at moments that are spread over one pass of turns."""
    for name in ("calm", "killed"):
        make_home(folder / name, num_conversations)
    begin_s = time.perf_counter()
    assert start(folder, "calm").wait() == 0, "sundog run did not end well"
    wall_s = time.perf_counter() - begin_s
    one_pass, calm = num_counted(folder, "calm"), noted(folder, "calm")
    for index in range(num_kills):
        process = start(folder, "killed")
        until = one_pass * (index + chance.random()) / num_kills
        while num_counted(folder, "killed") < until and process.poll() is None:
            time.sleep(0.02)
        assert process.returncode is None, f"the run ended before kill {index}"
        process.send_signal(signal.SIGKILL)
        process.wait()
    start(folder, "killed").wait()
    killed = noted(folder, "killed")
    num_left_out = (calm - killed).total()
    return {
        "num_conversations": num_conversations,
        "num_turns": one_pass,
        "wall_s": round(wall_s, 2),
        "num_effects": sum(calm.values()),
        "num_kills": num_kills,
        # A row that failed asks no further turn, and each turn that is not asked leaves its effect out.
        "turns_asked_again_at_most": num_counted(folder, "killed") - one_pass + num_left_out,
        "effects_doubled": sum(number - 1 for number in killed.values()),
        "effects_left_out": num_left_out,
        "rows_failed_for_an_effect_of_unknown_outcome": num_lines(folder / "killed.jsonl.errors.jsonl"),
        "rows_equal_to_undisturbed": len(lines(folder / "killed.jsonl") & lines(folder / "calm.jsonl")),
    }


def make_home(home: Path, num_conversations: int) -> None:
    """Each run has a flow and a database of its own."""
    home.mkdir()
    (home / "flow.yaml").write_text(FLOW)
    rows = (json.dumps({"id": number}) + "\n" for number in range(num_conversations))
    (home / "rows.jsonl").write_text("".join(rows))
    with sqlite3.connect(home / "notes.db") as database:
        database.execute("create table notes (conversation integer, text text)")


def start(folder: Path, name: str) -> subprocess.Popen[bytes]:
    words = command("run", "flow.yaml", "--output", f"../{name}.jsonl", "--state", "state", "--quiet")
    environment = {**os.environ, VARIABLE: str(folder / f"{name}.counted")}
    return subprocess.Popen(
        words, cwd=folder / name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )


def num_counted(folder: Path, name: str) -> int:
    file = folder / f"{name}.counted"
    return file.stat().st_size if file.exists() else 0


def noted(folder: Path, name: str) -> Counter[tuple[int, str]]:
    with sqlite3.connect(folder / name / "notes.db") as database:
        return Counter(database.execute("select conversation, text from notes"))


def lines(path: Path) -> set[str]:
    return set(path.read_text().splitlines()) if path.exists() else set()


def num_lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def measure_tokens(num_turns: int, num_conversations: int) -> dict[str, Any]:
    """Conversations on the embedded engine, whose tool always answers."""
    options: dict[str, Any] = {"kind": "openvino", "model": "smollm2-135m", "max_concurrency": 8}
    with tempfile.TemporaryDirectory(prefix="sundog-agents-") as state, listened_to("openvino") as recorder:
        flow = sd.Flow("agents")
        flow.engine("local", **options)
        flow.input("rows", rows=[{"id": number, "bed": f"bed {number % 7}"} for number in range(num_conversations)])
        note = flow.tool(
            "note", description="Note what you see.", parameters={"text": "str"}, python={"call": "builtins:dict"}
        )
        flow.agent(
            "work",
            engine="local",
            tools=[note],
            system=SYSTEM,
            prompt="Look after {{ row.bed }}, the {{ row.id }}th time.",
            tool_choice="required",
            parallel_tools=False,
            max_turns=num_turns,
            max_repeats=100,
            max_tokens=32,
        )
        flow.output(id="{{ row.id }}", turns="{{ work.turns }}")
        flow.run(state=state)
    used = tokens(recorder, options)
    least, _ = distinct_prefix_minimum(read_calls(recorder, options), BLOCK_TOKENS)
    ratio = round(used["computed_prompt_tokens"] / least, 3)
    return {"max_turns": num_turns, **used, "least_prompt_tokens": least, "computed_over_least": ratio}


if __name__ == "__main__":
    main()
