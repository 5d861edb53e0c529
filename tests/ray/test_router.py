"""A router in front of servers is one large replica: here Ray Serve, with two replicas of a server that answers as
OpenAI's does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sundog.config import read_config
from sundog.ray.on_ray import work_on_ray
from sundog.ray.options import RayOptions
from sundog.runtime.run_options import RunOptions
from sundog.session.flow_file import load_plan
from sundog.session.session import plan_session
from tests.ray.clusters import processes_of
from tests.waiting import until

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = [pytest.mark.ray, pytest.mark.slow]
pytest.importorskip("ray.serve", reason="Ray Serve is not installed: pip install 'ray[serve]'")
NUM_ROWS, NUM_AT_ONCE = 60, 9
FLOW = """
name: routed
engines:
  routed: {{kind: openai, base_url: "{url}", model: fake, max_concurrency: {num_at_once}}}
inputs:
  rows: {{path: rows.jsonl}}
nodes:
  text:
    llm: {{engine: routed, prompt: "Write about {{{{ row.topic }}}}."}}
  note:
    llm: {{engine: routed, prompt: "{{{{ row.id }}}}: {{{{ text.text }}}}"}}
outputs: {{id: "{{{{ row.id }}}}", note: "{{{{ note.text }}}}"}}
"""


def replica_class(log: Path) -> type[Any]:
    """The class is made here, so that Ray takes it to its workers whole. Each line of the log is a request that came or
    was answered."""

    class Replica:
        async def __call__(self, request: Any) -> dict[str, Any]:
            if request.method == "GET":
                return {"data": [{"id": "fake"}]}
            text = (await request.json())["messages"][-1]["content"]
            self._tell("came", text)
            await asyncio.sleep(0.2)
            self._tell("answered", text)
            choice = {"index": 0, "message": {"content": text.upper()}, "finish_reason": "stop"}
            return {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 5}}

        def _tell(self, event: str, text: str) -> None:
            with log.open("a") as file:
                file.write(json.dumps({"event": event, "text": text, "pid": os.getpid()}) + "\n")

    return Replica


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


@pytest.fixture
def folder(cluster: Cluster, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A flow whose engine is the router."""
    from ray import serve as typed_serve

    serve: Any = typed_serve  # its decorators do not tell what they return

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    # The router itself holds back nothing: how much comes at once is sundog's.
    free_replicas = {"num_replicas": 2, "max_ongoing_requests": 100, "ray_actor_options": {"num_cpus": 0}}
    deployment = serve.deployment(replica_class(log), **free_replicas)
    serve.run(deployment.bind(), name="routed", route_prefix="/v1")
    (tmp_path / "flow.yaml").write_text(FLOW.format(url=f"http://127.0.0.1:{port}/v1", num_at_once=NUM_AT_ONCE))
    rows = ({"id": number, "topic": f"topic {number % 5}"} for number in range(NUM_ROWS))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    yield tmp_path
    serve.shutdown()


def run(folder: Path, disturb: Callable[[], None] = lambda: None) -> list[dict[str, Any]]:
    """Run the flow on three cells; returns the rows of its output."""
    config = read_config(f"file://{folder}/state")
    session = plan_session(load_plan(folder / "flow.yaml", {}), folder, config)
    with (
        work_on_ray(RayOptions(num_cells=3), config.state_dir, folder) as work,
        session.open_run(RunOptions(config.state_dir, {"": folder / "out.jsonl"}), work) as opened,
        ThreadPoolExecutor(1) as beside,
    ):
        disturbing = beside.submit(disturb)
        asyncio.run(opened.execute())
        disturbing.result()
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def told(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def answers() -> list[dict[str, Any]]:
    return [{"id": number, "note": f"{number}: WRITE ABOUT TOPIC {number % 5}."} for number in range(NUM_ROWS)]


def test_cells_share_the_places_of_a_router(folder: Path, log: Path) -> None:
    assert run(folder) == answers()
    asked = [one["text"] for one in told(log) if one["event"] == "came"]
    assert len(asked) == len(set(asked)) == NUM_ROWS + 5
    num_there = highest = 0
    for one in told(log):
        num_there += 1 if one["event"] == "came" else -1
        highest = max(highest, num_there)
    assert highest <= NUM_AT_ONCE
    assert len({one["pid"] for one in told(log)}) == 2, "the router uses both replicas"


def test_a_replica_that_dies_behind_a_router_loses_no_row(folder: Path, log: Path) -> None:
    def kill_replica() -> None:
        until(lambda: len(told(log)) >= 2 * NUM_AT_ONCE)
        os.kill(processes_of("ray::ServeReplica")[0], signal.SIGKILL)

    assert run(folder, kill_replica) == answers()
    num_asked = sum(1 for one in told(log) if one["event"] == "came")
    assert NUM_ROWS + 5 <= num_asked <= NUM_ROWS + 5 + NUM_AT_ONCE
