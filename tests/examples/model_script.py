"""A server whose model says what a function of the conversation says, and which can hold one request back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

from tests.e2e.model_server import ModelServer
from tests.e2e.processes import WAIT_S, run, start
from tests.examples.stage import ONE_BY_ONE, run_example

COMMAND = ("run", "flow.yaml", "--output", "out.jsonl", *ONE_BY_ONE)
Message = dict[str, Any]
Script = Callable[[list[Message]], Message]


class ScriptedModel(ModelServer):
    """`script` gives the next message of a conversation."""

    def __init__(self, script: Script) -> None:
        super().__init__(num_uses=0)
        self._script = script
        self._held_number: int | None = None
        self._is_held, self._release = Event(), Event()

    @property
    def engine(self) -> str:
        """The block of this engine in a flow."""
        return f'{{kind: openai, base_url: "{self.base_url}", model: m}}'

    def message(self, messages: list[Message]) -> Message:
        if self.num_asked == self._held_number:
            self._is_held.set()
            self._release.wait(WAIT_S)
        return self._script(messages)

    def kill_at_turns(self, turns: Sequence[int], killed: Path, calm: Path) -> None:
        """Run the example in `killed` to its end, with a kill after each number of `turns`, and compare with `calm`."""
        run_example(calm, *ONE_BY_ONE)
        one_pass = self.num_asked
        for num_more in turns:
            self.kill_at(num_more, killed, *COMMAND)
            assert not (killed / "out.jsonl").exists()
        code, _, stderr = run(killed, *COMMAND)
        assert code == 0, stderr
        assert self.num_asked == 2 * one_pass + len(turns), "only the turn in flight is asked again"
        assert (killed / "out.jsonl").read_bytes() == (calm / "out.jsonl").read_bytes()

    def kill_at(self, num_more: int, folder: Path, *command: str) -> None:
        """Kill `sundog ...` while it waits for the answer after `num_more` others: nothing else is in flight then."""
        self._is_held.clear()
        self._release.clear()
        self._held_number = self.num_asked + num_more + 1
        process = start(folder, *command)
        assert self._is_held.wait(WAIT_S)
        process.kill()
        process.communicate(timeout=WAIT_S)
        self._held_number = None
        self._release.set()


def use(name: str, /, **arguments: Any) -> Message:
    """The model uses one tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": f"{name}1", "function": function}]}


def say(value: str | Message) -> Message:
    """The model answers with a text, or with fields."""
    return {"role": "assistant", "content": value if isinstance(value, str) else json.dumps(value)}


def results(messages: list[Message]) -> list[Any]:
    """Return what the tools of a conversation gave so far, in order."""
    return [json.loads(message["content"]) for message in messages if message["role"] == "tool"]
