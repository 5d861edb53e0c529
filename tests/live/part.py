"""A live host in a test: flow files, served over engines without a model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sundog.config import Config
from sundog.live.flow import LiveFlow
from sundog.live.flow_request import FlowRequest
from sundog.live.host import LiveHost, open_live_host
from sundog.secrets import Secrets
from sundog.serve.loading import load_served

TWO_STEPS = """
name: topics
engines:
  local: {kind: "null", model: m}
inputs:
  rows: {path: rows.jsonl}
nodes:
  facts:
    llm: {engine: local, prompt: "Facts on {{ row.topic }}"}
  answer:
    llm: {engine: local, prompt: "{{ facts.text }} so {{ row.question }}?"}
outputs: {topic: "{{ row.topic }}", answer: "{{ answer.text }}"}
"""


@asynccontextmanager
async def served(folder: Path, flow: str = TWO_STEPS) -> AsyncIterator[tuple[LiveHost, LiveFlow]]:
    """Yield a host with the state of `folder` that serves a flow."""
    path = folder / "flow.yaml"
    path.write_text(flow, encoding="utf-8")
    config = Config(folder / "state", Secrets({}))
    async with open_live_host(config.state_dir, config.secrets) as host:
        yield host, await host.serve(load_served(path, config).served)


async def accepted(flow: LiveFlow, rows: list[dict[str, Any]], **more: Any) -> FlowRequest:
    """Return the request of rows that are accepted for the first time."""
    request = await flow.accept(rows, **more)
    assert isinstance(request, FlowRequest)
    return request


def values(host: LiveHost, request: FlowRequest) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the state and the value of each row that has ended, in their order."""
    return [(end.state, host.decoded(end.body)) for _, end in sorted(request.ends.items())]
