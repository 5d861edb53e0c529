"""A batch run that is watched: its figures from the state folder, as it goes on and when it has ended."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sundog as sd
from sundog.config import Config
from sundog.errors import ConfigError
from sundog.runtime.open_run import PLAN_FILE, keep_plan
from sundog.runtime.watched_run import meant_run
from sundog.secrets import Secrets
from sundog.serve.server import ListenOptions, serve_watched
from tests.browser import DESKTOP, PHONE, browser_tab
from tests.serve.asking import ask
from tests.serve.keyed import added
from tests.serve.test_keys_at_doors import bearer
from tests.serve.test_live_page import CONTRAST, Elements

FLOW = """
name: "topics <b>"
engines:
  local: {kind: "null", model: m}
inputs:
  rows: {path: rows.jsonl}
nodes:
  facts:
    llm: {engine: local, prompt: "Facts on {{ row.topic }}"}
  wanted:
    require: {that: "{{ row.topic != 'ants' }}", else: "<i>refused</i>: {{ row.topic }} {{ 'x' * 500 }}"}
  answer:
    llm: {engine: local, prompt: "{{ facts.text }} so?"}
outputs: {answer: "{{ answer.text }}"}
"""
TOPICS = ["bees", "wasps", "ants", "bees"]


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """The state folder of a run that has ended."""
    (tmp_path / "flow.yaml").write_text(FLOW)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"topic": one}) + "\n" for one in TOPICS))
    state = tmp_path / "state"
    sd.load(tmp_path / "flow.yaml").run(state=state, max_errors=9)
    return state


@contextmanager
def watched(state: Path, run: str = "last") -> Iterator[str]:
    """The address of a server of another process that shows a run."""
    command = [sys.executable, "-m", "sundog", "serve", "--watch", run, "--port", "0", "--state", str(state)]
    command += ["--log-level", "warning"]  # nobody reads its log
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"at (http://\S+)", process.stderr.readline())
            assert found is not None
            yield found.group(1)
        finally:
            process.terminate()
    assert process.returncode == 0


def figures(status: Any) -> tuple[str, dict[str, int], list[tuple[str, int, int]]]:
    (flow,) = status["flows"]
    steps = [(step["name"], step["num_asked"], step["num_executed"]) for step in flow["steps"]]
    return status["state"], flow["rows_ended"], steps


def test_a_run_that_has_ended_is_shown(ran: Path) -> None:
    with watched(ran) as address:
        status = ask(address, "GET", "/v1/status").body
        page = Elements(ask(address, "GET", "/").body)
        missing = ask(address, "POST", "/v1/chat/completions", {})
        health = ask(address, "GET", "/health")
    steps = [("facts", 3, 2), ("answer", 3, 2)]
    assert figures(status) == ("finished", {"done": 3, "failed": 1}, steps)
    assert status["flows"][0]["max_rows"] == 4
    assert status["savings"]["num_merged_calls"] == 2
    (failure,) = status["last_failures"]
    assert (failure["where"], failure["error"]) == ("wanted", "OperatorError")
    assert len(failure["message"]) == 160
    text = " ".join(page.text.split())
    assert "Flow topics <b>" in text
    assert "facts llm on engine:local executed 2 not made 1" in text
    assert "i" not in page.tags
    assert (missing.status, health.status) == (404, 200)


@pytest.mark.slow
def test_a_run_in_flight_goes_on_while_it_is_watched(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(
        FLOW.replace('kind: "null", model: m', 'kind: "null", model: m, latency_s: 0.2')
    )
    rows = [{"topic": f"bees {number}"} for number in range(400)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    state = tmp_path / "state"
    command = [sys.executable, "-m", "sundog", "run", str(tmp_path / "flow.yaml"), "--state", str(state), "--quiet"]
    with subprocess.Popen([*command, "--max-rows-in-flight", "4"]) as process:
        try:
            while not list(state.glob(f"runs/*/{PLAN_FILE}")):
                assert process.poll() is None
            with watched(state) as address:
                seen: list[int | None] = []
                while len(seen) < 3:
                    name, ended, _ = figures(ask(address, "GET", "/v1/status").body)
                    assert name == "running"
                    if ended.get("done") not in seen:
                        seen.append(ended.get("done"))
                    time.sleep(0.1)
                assert "facts" in ask(address, "GET", "/").body
        finally:
            process.kill()
    assert seen == sorted(seen, key=lambda number: number or 0)


def test_a_run_without_a_picture_is_shown_all_the_same(ran: Path) -> None:
    (kept,) = ran.glob(f"runs/*/{PLAN_FILE}")
    kept.write_text("of another version")
    with watched(ran, meant_run(ran, "last")[:10]) as address:
        status = ask(address, "GET", "/v1/status").body
        page = ask(address, "GET", "/").body
    assert {name for name, *_ in figures(status)[2]} == {"facts", "answer"}
    assert "<svg" not in page


def test_with_keys_it_needs_one(ran: Path) -> None:
    key = added(ran, "one")
    with watched(ran) as address:
        assert ask(address, "GET", "/v1/status").status == 401
        assert "topics" not in ask(address, "GET", "/").body
        assert ask(address, "GET", "/v1/status", None, bearer(key)).status == 200


def test_a_run_that_is_not_there_and_an_address_of_others_are_refused(ran: Path) -> None:
    with pytest.raises(ConfigError, match="there is no run 'nobody'"):
        meant_run(ran, "nobody")
    options = ListenOptions("0.0.0.0", 0)
    with pytest.raises(ConfigError, match="without keys"):
        asyncio.run(serve_watched(Config(ran, Secrets({})), meant_run(ran, "last"), options, print))
    command = [sys.executable, "-m", "sundog", "serve", "flow.yaml", "--watch", "last", "--state", str(ran)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert "--watch shows a run" in told.stderr


@pytest.mark.slow
def test_a_browser_shows_it(ran: Path) -> None:
    async def look(address: str) -> None:
        async with browser_tab() as tab:
            for size in (DESKTOP, PHONE):
                await tab.open(address, size)
                await tab.until("document.getElementById('note').textContent.includes('The run is finished')")
                assert await tab.value("document.documentElement.scrollWidth") <= size[0]
                assert (await tab.value(CONTRAST))[0][0] >= 4.5
            assert tab.complaints == []

    with watched(ran) as address:
        asyncio.run(look(address))


def test_a_plan_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = SimpleNamespace(tables=[], logical=SimpleNamespace(inputs=[], results=[]))
    run: Any = SimpleNamespace(folder=tmp_path / "run", plan=plan, keep_file=lambda name: None)
    with monkeypatch.context() as killing:
        killing.setattr(os, "fdopen", lambda descriptor, mode: CutOff(descriptor))
        with pytest.raises(KeyboardInterrupt):
            keep_plan(run)
    assert not (run.folder / PLAN_FILE).exists(), "nobody reads half of it, and the next process writes it"
    keep_plan(run)
    assert json.loads((run.folder / PLAN_FILE).read_bytes()) == {"inputs": [], "results": [], "tables": []}
    assert [path.name for path in run.folder.iterdir()] == [PLAN_FILE]


class CutOff:
    """A file whose writer is killed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> CutOff:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def write(self, content: bytes) -> None:
        os.write(self._descriptor, content[:5])
        raise KeyboardInterrupt
